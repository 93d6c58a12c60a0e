#!/bin/sh
# Prints the Python to build the environment with, or says what is missing.
# PYTHON=... chooses one. A sourced ROS 2 Jazzy brings its own: the one that can import its rclpy.
suits() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10 python}; do
    path=$(command -v "$candidate" 2>/dev/null) || continue
    if suits "$path"; then
        # The real interpreter, not a version manager's shim that may change its mind later.
        "$path" -c 'import os, sys; print(os.path.join(sys.base_prefix, "bin", "python%d.%d" % sys.version_info[:2]))'
        exit 0
    fi
done
if [ -n "${PYTHON:-}" ]; then
    echo "set-up: PYTHON=$PYTHON is not a working Python 3.10, 3.11 or 3.12" >&2
else
    echo "set-up: no Python 3.10, 3.11 or 3.12 found (have: $(python3 --version 2>&1));" \
        "install one, for example: sudo apt-get install python3 python3-venv python3-dev" >&2
fi
exit 1
