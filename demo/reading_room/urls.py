"""The page, the reports, the admin."""

from django.conf import settings
from django.contrib import admin
from django.urls import path
from django.views.static import serve

from library import views

admin.site.site_header = "The reading room"

urlpatterns = [
    path("", views.home, name="home"),
    path("more", views.more, name="more"),
    path("reports/<path:path>", serve, {"document_root": settings.REPORT_DIR}, name="report"),
    path("admin/", admin.site.urls),
]
