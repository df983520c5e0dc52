"""pgAdmin for one user: no login, data in .pgadmin, loopback only."""

import os
from pathlib import Path

DATA_DIR = str(Path(__file__).resolve().parent.parent / ".pgadmin")
LOG_FILE = os.path.join(DATA_DIR, "pgadmin4.log")
SQLITE_PATH = os.path.join(DATA_DIR, "pgadmin4.db")
SESSION_DB_PATH = os.path.join(DATA_DIR, "sessions")
STORAGE_DIR = os.path.join(DATA_DIR, "storage")
SERVER_MODE = False
DEFAULT_SERVER = "127.0.0.1"
DEFAULT_SERVER_PORT = int(os.environ.get("PGADMIN_PORT", "5050"))
MASTER_PASSWORD_REQUIRED = False
UPGRADE_CHECK_ENABLED = False
