"""An S3 server in memory with one bucket, for a look at the workers without a store.

    python -P moto_store.py HOST PORT BUCKET
"""

import logging
import sys

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
from werkzeug.test import Client

if __name__ == "__main__":
    host, port, bucket = sys.argv[1:]
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = DomainDispatcherApplication(create_backend_app)
    Client(application).put(f"/{bucket}", base_url=f"http://{host}:{port}/")
    # One request at a time: moto checks the condition of a put first, and then writes without a lock.
    run_simple(host, int(port), application, threaded=False)
