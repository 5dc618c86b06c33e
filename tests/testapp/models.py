"""A repertory cinema: every kind of Django relation occurs once."""

from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils.functional import cached_property


class Studio(models.Model):
    name = models.CharField(max_length=100)


class Director(models.Model):
    name = models.CharField(max_length=100)
    studio = models.ForeignKey(
        Studio, null=True, on_delete=models.SET_NULL, related_name="directors"
    )


class Membership(models.Model):
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="membership"
    )
    motto = models.CharField(max_length=100)
    photo = models.FileField(upload_to="photos", blank=True)
    favourite = models.ForeignKey("Film", null=True, on_delete=models.SET_NULL, related_name="+")


class Genre(models.Model):
    name = models.CharField(max_length=50)


class Actor(models.Model):
    name = models.CharField(max_length=100)


class Strand(models.Model):
    """A series of films; one strand can be part of another."""

    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE, related_name="children")


class ProgrammeManager(models.Manager):
    def titles(self):
        return list(self.values_list("title", flat=True))  # <- the access [manager_titles]


class Film(models.Model):
    title = models.CharField(max_length=100, unique=True)
    synopsis = models.TextField(default="")
    ticket_price = models.DecimalField(max_digits=6, decimal_places=2, default=10)
    director = models.ForeignKey(Director, on_delete=models.CASCADE, related_name="films")
    curator = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="curated"
    )
    strand = models.ForeignKey(Strand, null=True, on_delete=models.SET_NULL)
    genres = models.ManyToManyField(Genre, related_name="films")
    cast = models.ManyToManyField(Actor, through="Role", related_name="films")
    notes = GenericRelation("Note")

    objects = models.Manager()
    programme = ProgrammeManager()

    @cached_property
    def average_stars(self):
        found = self.reviews.aggregate(stars=models.Avg("stars"))  # <- the access [average_stars]
        return found["stars"]


class Documentary(Film):
    class Meta:
        proxy = True


class Restoration(Film):
    """Multi-table inheritance: film.restoration is a reverse one-to-one."""

    year = models.IntegerField(default=2020)


class Role(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="roles")
    actor = models.ForeignKey(Actor, on_delete=models.CASCADE, related_name="roles")
    character = models.CharField(max_length=100)


class Room(models.Model):
    name = models.CharField(max_length=50)


class InRoom(models.Model):
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="%(class)ss")

    class Meta:
        abstract = True


class Screening(InRoom):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="screenings")

    def __str__(self):
        return f"{self.film.title} in room {self.room_id}"  # <- the access [screening_str]


class Review(models.Model):
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="reviews")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="reviews"
    )
    text = models.TextField()
    stars = models.IntegerField(default=5)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["film", "user"], name="one_review_each")]

    def __repr__(self):
        return f"<Review of {self.film.title}>"  # <- the access [review_repr]


class Note(models.Model):
    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    content_object = GenericForeignKey()
    text = models.TextField()


class Booking(models.Model):
    number = models.CharField(max_length=20)
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="bookings"
    )
    status = models.CharField(max_length=20, default="new")


class Ticket(models.Model):
    booking = models.ForeignKey(Booking, on_delete=models.CASCADE, related_name="tickets")
    film = models.ForeignKey(Film, on_delete=models.CASCADE, related_name="+")
    seats = models.IntegerField(default=1)


class LogEntry(models.Model):
    text = models.CharField(max_length=100)
