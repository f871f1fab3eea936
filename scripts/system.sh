#!/usr/bin/env bash
# Installs what comes from the operating system: bubblewrap, which the sandbox of python graders is made with.
# Does nothing where it is there; says what is missing where it may not install.
set -euo pipefail

if command -v bwrap >/dev/null; then
    exit 0
fi
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing bubblewrap ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends bubblewrap >/dev/null
else
    echo "bubblewrap is missing: python graders will need 'trusted: true', and the sandbox's tests are skipped." >&2
    echo "Install it with your system's packages, such as: sudo apt install bubblewrap" >&2
fi
