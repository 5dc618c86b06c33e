from dataclasses import dataclass, field

from strawberry.dataloader import DataLoader
from strawberry.django.context import StrawberryDjangoContext

from tests.testapp.models import Studio


async def load_studios(keys):
    studios = Studio.objects.filter(pk__in=keys)
    found = {studio.pk: studio for studio in studios}  # <- the access [load_studios]
    return [found.get(key) for key in keys]


@dataclass
class Context(StrawberryDjangoContext):
    """What resolvers find in ``info.context``."""

    studios: DataLoader = field(default_factory=lambda: DataLoader(load_studios))
