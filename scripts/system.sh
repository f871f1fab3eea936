#!/usr/bin/env bash
# Installs what comes from the operating system: bubblewrap, which the sandbox of python graders is made with, Pango,
# which sets reports as PDF, and Chromium, which a test uses to see that web pages cannot use a server.
# Does nothing where they are there; says what is missing where it may not install.
set -euo pipefail

missing=()
command -v bwrap >/dev/null || missing+=(bubblewrap)
ldconfig -p 2>/dev/null | grep -q libpangoft2-1.0 || missing+=(libpangoft2-1.0-0 libharfbuzz-subset0)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
if [[ ${#missing[@]} == 0 ]]; then
    exit 0
fi
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]} ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || echo "apt-get update failed; what is known of the packages is used." >&2
    # A machine without one of them goes on: its tests are skipped.
    for package in "${missing[@]}"; do
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null || echo "$package cannot be installed." >&2
    done
else
    echo "Missing: ${missing[*]}. Without bubblewrap python graders need 'trusted: true'; the tests of what is missing" >&2
    echo "are skipped. Install it with your system's packages, such as: sudo apt install ${missing[*]}" >&2
fi
