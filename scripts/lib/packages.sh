# shellcheck shell=bash disable=SC2154 # setup sets log
# System packages: what is missing, and who may install it.

# Prints 12 or 13 on those Debian releases, nothing elsewhere (a derivative has other packages).
debian_release() {
  [ -r /etc/os-release ] && command -v apt-get >/dev/null || return 0
  (. /etc/os-release && case "${ID:-}-${VERSION_ID:-}" in debian-12 | debian-13) echo "$VERSION_ID" ;; esac)
}

missing_packages() { # missing_packages PACKAGE...
  local package
  for package in "$@"; do
    case $(dpkg-query -W -f ' ${db:Status-Status} ' "$package" 2>/dev/null) in
      *" installed "*) ;;
      *) printf '%s ' "$package" ;;
    esac
  done
}

install_missing() { # install_missing PACKAGE...
  local missing as_root=()
  read -ra missing <<<"$(missing_packages "$@")"
  [ ${#missing[@]} != 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    as_root=(sudo -n)
    sudo -n true 2>/dev/null || die "system packages are missing: ${missing[*]}" \
      "run this once as root, then scripts/setup again:" "  $PWD/scripts/lib/install-packages ${missing[*]}"
  fi
  begin "system packages: ${missing[*]}"
  "${as_root[@]}" "$PWD/scripts/lib/install-packages" "${missing[@]}" >>"$log" 2>&1
}
