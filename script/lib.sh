# What the commands in this directory share: the repository as working directory, a Python, the virtual environment.
# shellcheck shell=sh

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
# A variable of an activated environment would send uv there instead of to .venv.
unset VIRTUAL_ENV UV_PROJECT_ENVIRONMENT
export UV_PYTHON_DOWNLOADS=never

# Print each argument on a line of its own.
say() { printf '%s\n' "$@" >&2; }

die() {
    say "$@"
    exit 1
}

# Being found is not enough: pyenv's shims exist also for versions that are not selected, and then fail.
suitable() { "$1" -c 'import sys, venv; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1; }

# Where a Python may be, one per line, the newest version first.
candidates() {
    printf '%s\n' "${PYTHON:-}"
    for version in 3.14 3.13 3.12; do
        printf '%s\n' "python$version" "${PYENV_ROOT:-${HOME:-}/.pyenv}/versions/$version".*/bin/python3
    done
    printf '%s\n' python3 python
    UV_PYTHON_PREFERENCE=only-managed uv python find --no-project '>=3.12' 2>/dev/null || true
}

# Print the first suitable Python, or nothing.
find_python() {
    candidates | while read -r candidate; do
        if [ -n "$candidate" ] && suitable "$candidate"; then
            printf '%s\n' "$candidate"
            break
        fi
    done
}

# The Python of .venv if there is one, else the one that .venv will be made from.
any_python() {
    if venv_is_good; then
        printf '%s\n' .venv/bin/python
        return
    fi
    found=$(find_python)
    [ -n "$found" ] || die 'Python 3.12 or newer is needed. One of these installs it:' \
        '  uv python install 3.13  ·  pyenv install 3.13  ·  apt-get install python3 python3-venv' \
        "If it is in an unusual place: PYTHON=/path/to/python3 $0"
    printf '%s\n' "$found"
}

# A virtual environment holds absolute paths, so that one from another directory is of no use.
venv_is_good() {
    suitable .venv/bin/python && [ "$(cat .venv/made-in 2>/dev/null)" = "$root" ] &&
        { [ -z "${PYTHON:-}" ] || [ "$("$PYTHON" -V)" = "$(.venv/bin/python -V)" ]; }
}

fingerprint() {
    .venv/bin/python -V
    cksum pyproject.toml uv.lock
}

# ensure_venv [GROUP]...: .venv holds the project, editable, and at least these dependency groups.
ensure_venv() {
    if ! venv_is_good; then
        python=$(any_python)
        "$python" -m venv --clear --without-pip .venv
        printf '%s\n' "$root" >.venv/made-in
    fi
    current=$(fingerprint)
    missing=
    for group in base "$@"; do
        [ "$(cat ".venv/has-$group" 2>/dev/null)" = "$current" ] || missing=yes
    done
    [ -n "$missing" ] || return 0
    say "Installing into .venv ($(.venv/bin/python -V))${*:+: $*}"
    install_with_uv "$@" || install_with_pip "$@"
    for group in base "$@"; do
        printf '%s\n' "$current" >".venv/has-$group"
    done
}

# ready_for "GROUP..." [OPTION]...: servers, and .venv with these groups; what only tells of itself needs less.
ready_for() {
    groups=$1
    shift
    for option; do
        case $option in
        -h | --help | --list)
            ensure_venv bench
            return
            ;;
        esac
    done
    script/servers
    # shellcheck disable=SC2086  # words on purpose
    ensure_venv $groups
}

install_with_uv() {
    uv --version >/dev/null 2>&1 || return 1
    options=
    for group; do options="$options --group $group"; done
    # shellcheck disable=SC2086  # words on purpose
    uv sync --quiet --locked --inexact --no-default-groups --python .venv/bin/python $options && return
    say 'uv could not install what uv.lock says; trying pip.'
    return 1
}

install_with_pip() {
    .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >/dev/null ||
        die 'This Python has no ensurepip: install python3-venv (Debian, Ubuntu) or uv.'
    options=
    for group; do options="$options --group $group"; done
    # --group came with pip 25.1.
    .venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
    # shellcheck disable=SC2086  # words on purpose
    .venv/bin/python -m pip install --quiet --editable . $options
}
