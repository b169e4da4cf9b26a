"""Run the demo: python run.py [--serve]."""

import os
import sys

import django

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "reading_room.settings"
    django.setup()

    from tour.command import main

    sys.exit(main())
