from django import forms

from tests.testapp.models import Film


class ReviewForm(forms.Form):
    film = forms.ModelChoiceField(Film.objects.all())
    text = forms.CharField()
