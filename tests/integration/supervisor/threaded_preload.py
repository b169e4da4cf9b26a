"""A preload after which nothing should be forked."""

import threading

threading.Thread(target=threading.Event().wait, name="an-agent", daemon=True).start()
