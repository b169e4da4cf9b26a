from django.apps import AppConfig


class OnVtasks(AppConfig):
    name = "on_vtasks"

    def ready(self):
        from on_vtasks import receivers

        receivers.connect()
