#!/usr/bin/env bash
# Makes .venv-client-VERSION with the openai package of that version and nothing else, for `make test-clients`:
# scripts/setup_client.sh newest 1.91
# Safe to run again: a version that is there is not made again, and `newest` is brought up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for version in "${@:?versions of openai, such as: newest 1.91}"; do
    venv=".venv-client-$version"
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)
    if [[ $version == newest ]]; then
        wanted=openai
    else
        wanted="openai==$version.*"
        [[ -f $venv/.ready ]] && continue
    fi
    [[ -x $venv/bin/python ]] || .venv/bin/python -m venv "$venv"
    "${pip[@]}" --upgrade "$wanted"
    touch "$venv/.ready"
done
