from strawberry.extensions import FieldExtension, SchemaExtension

from tests.testapp.models import Film, LogEntry


class WithDirector(FieldExtension):
    """Append the director's name to what a sync field returns."""

    def resolve(self, next_, source, info, **kwargs):
        title = next_(source, info, **kwargs)
        return f"{title} ({source.director.name})"  # <- the access [field_extension]


class WithCurator(FieldExtension):
    """Append the curator's name to what an async field returns."""

    async def resolve_async(self, next_, source, info, **kwargs):
        title = await next_(source, info, **kwargs)
        return f"{title} ({source.curator.username})"  # <- the access [async_field_extension]


class LogOperations(SchemaExtension):
    def on_operation(self):
        yield
        LogEntry.objects.create(text="operation")  # <- the access [on_operation]


class CountFilms(SchemaExtension):
    async def on_execute(self):
        self.films = Film.objects.count()  # <- the access [on_execute]
        yield


class ReportFilms(SchemaExtension):
    def get_results(self):
        return {"films": Film.objects.count()}  # <- the access [get_results]
