# shellcheck shell=bash
# The checkout's Python environment.

# Debian's own Python first: a pyenv or conda one on PATH comes and goes with the user's shell.
find_python() {
  local python
  for python in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$python"
      return
    fi
  done
}

# A virtual environment knows its own path and its Python: a moved checkout or another Python needs a new one.
venv_identity() { printf '%s in %s\n' "$("$1" -VV)" "$PWD"; }

venv_stamp() { # venv_stamp PYTHON
  { venv_identity "$1" && cat requirements.lock pyproject.toml; } | sha256sum
}

venv_is_current() { # venv_is_current PYTHON
  [ -x .venv/bin/python ] && [ "$(cat .venv/setup-stamp 2>/dev/null)" = "$(venv_stamp "$1")" ]
}

make_venv() { # make_venv PYTHON
  rm -f .venv/setup-stamp
  if [ "$(cat .venv/setup-identity 2>/dev/null)" != "$(venv_identity "$1")" ]; then
    "$1" -m venv --clear .venv
    venv_identity "$1" >.venv/setup-identity
  fi
  local pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input install)
  # One locked package comes as source. Build isolation would fetch an unpinned setuptools for it, so the locked one goes in first.
  awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' requirements.lock >build/requirements-setuptools.txt
  "${pip[@]}" --require-hashes -r build/requirements-setuptools.txt
  "${pip[@]}" --require-hashes --no-build-isolation --use-pep517 -r requirements.lock
  "${pip[@]}" --no-deps --no-build-isolation --editable .
  venv_stamp "$1" >.venv/setup-stamp
}

# The interface to the Python side: one line, the folder of the PostgreSQL programs that Rigmesh starts for itself.
record_bindir() { # record_bindir FOLDER
  if [ "$(cat .venv/postgres-bindir 2>/dev/null)" != "$1" ]; then
    printf '%s\n' "$1" >.venv/postgres-bindir
  fi
}
