from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str, **fields: object) -> "User":
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class Team(models.Model):
    name = models.CharField(max_length=80, unique=True)

    def __str__(self) -> str:
        return self.name


class User(AbstractBaseUser):
    class Role(models.TextChoices):
        MEMBER = "member"
        ADMIN = "admin"

    email = models.EmailField(unique=True)
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.MEMBER)
    team = models.ForeignKey(Team, models.PROTECT, related_name="members")
    otp_enabled = models.BooleanField(default=False)
    """Whether a device that we do not know yet needs a one-time code."""

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["team"]

    def __str__(self) -> str:
        return self.email


class Profile(models.Model):
    """Written when onboarding starts: a new user has none."""

    user = models.OneToOneField(User, models.CASCADE, related_name="profile")
    onboarding_completed = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"Profile {self.pk}"
