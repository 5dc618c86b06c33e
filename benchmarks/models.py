"""The smallest pair of models with a relation."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=50)

    objects: ClassVar[models.Manager[Author]] = models.Manager()

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return self.name


class Book(models.Model):
    title = models.CharField(max_length=50)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")

    objects: ClassVar[models.Manager[Book]] = models.Manager()

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return self.title


class Portrait(models.Model):
    author = models.OneToOneField(Author, on_delete=models.CASCADE, related_name="portrait")
    painter = models.CharField(max_length=50)

    objects: ClassVar[models.Manager[Portrait]] = models.Manager()

    class Meta:
        app_label = "benchmarks"

    def __str__(self) -> str:
        return self.painter
