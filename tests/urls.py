"""The URLs of the test project."""

from django.urls import path

from tests.testapp import schema, views
from tests.testapp.django_schema import django_schema
from tests.testapp.ninja_api import api

GraphQLView = views.GraphQLView

urlpatterns = [
    path("graphql/", GraphQLView.as_view(schema=schema.schema)),
    path("graphql/unguarded/", GraphQLView.as_view(schema=schema.unguarded_schema)),
    path("graphql/masked/", GraphQLView.as_view(schema=schema.masked_schema)),
    path("graphql/logging/", GraphQLView.as_view(schema=schema.logging_schema)),
    path("graphql/counting/", GraphQLView.as_view(schema=schema.counting_schema)),
    path("graphql/reporting/", GraphQLView.as_view(schema=schema.reporting_schema)),
    path("graphql/eager/", views.EagerGraphQLView.as_view(schema=schema.schema)),
    path("graphql/django/", GraphQLView.as_view(schema=django_schema)),
    path("ninja/", api.urls),
    path("whoami/", views.whoami),
    path("basket/", views.basket),
    path("films/", views.listing),
    path("films/<title>/", views.page),
    path("films/<title>/dict/", views.as_dict),
    path("films/<title>/class/", views.FilmView.as_view()),
    path("films/<title>/sync/", views.sync_page),
    path("render/<template>/", views.render_film),
    path("export/", views.export),
    path("sync-export/", views.sync_export),
    path("sync-listing/", views.sync_listing),
    path("upload-photo/", views.upload_photo),
    path("cached-count/", views.cached_count),
    path("write-to-cache/", views.write_to_cache),
    path("mail/", views.mail),
    path("review-form/", views.review_form),
    path("blank-review-form/", views.blank_review_form),
    path("review-page/", views.review_page),
    path("cloakroom/", views.Cloakroom.as_view()),
    path("clean-review/", views.clean_review),
    path("paginated/", views.paginated),
    path("log-in/", views.log_in),
    path("check-password/", views.check_password),
    path("content-type/", views.content_type),
    path("titled/", views.titled),
    path("logged/", views.logged),
    path("notified/", views.notified),
    path("with-fallback/", views.with_fallback),
    path("logged-and-raised/", views.logged_and_raised),
    path("as-json/", views.as_json),
]
