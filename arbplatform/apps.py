from django.apps import AppConfig


class PlatformConfig(AppConfig):
    name = "arbplatform"
    verbose_name = "Platform"

    def ready(self) -> None:
        # Registers the system checks, and makes our Celery application the one that services find.
        from arbplatform import celery, checks  # noqa: F401, PLC0415
