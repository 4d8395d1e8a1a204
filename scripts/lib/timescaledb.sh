# shellcheck shell=bash
# TimescaleDB on Debian 12, which has no package of it: Debian 13's source, built for Debian 12's PostgreSQL 15.
#
# It goes into a tree of Rigmesh's own, beside copies of the machine's PostgreSQL programs: an ordinary user cannot write to /usr, and
# the machine's PostgreSQL is not ours to change. PostgreSQL finds its lib and share folders relative to its own program (copies, then,
# not links), so the tree works wherever it lies:
#   CACHE/postgres-15-timescaledb-2.19.3/{lib,share}/postgresql/15, and `complete`: the package version that the copies are of.

readonly timescaledb_version=2.19.3
readonly tree_name=postgres-15-timescaledb-$timescaledb_version
readonly shared_cache=/var/cache/rigmesh
if [ "$(id -u)" = 0 ]; then cache=$shared_cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}/rigmesh; fi
readonly cache

postgres_version() { dpkg-query -W -f '${Version}' postgresql-15 2>/dev/null || true; }

# Prints the folder of a complete tree, or nothing. An ordinary user may use root's.
find_tree() {
  local folder version
  version=$(postgres_version)
  for folder in "$shared_cache" "$cache"; do
    if [ -n "$version" ] && [ "$(cat "$folder/$tree_name/complete" 2>/dev/null)" = "$version" ]; then
      echo "$folder/$tree_name"
      return
    fi
  done
}

has_timescaledb() { [ -e "$1/complete" ] && [ -e "$1/lib/postgresql/15/lib/timescaledb-$timescaledb_version.so" ]; }

# The compiler and its company are needed only where there is something to compile.
debian12_build_packages() {
  if [ -z "$(find_tree)" ] && ! has_timescaledb "$cache/$tree_name"; then echo cmake dpkg-dev gcc libc6-dev make; fi
}

# apt with sources, lists and cache of its own in the current folder: works as any user and leaves the machine's apt alone. Debian's
# archive keys, which the machine has, vouch for everything fetched.
private_apt() {
  apt-get -o Dir::Etc::SourceList="$PWD/apt/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$PWD/apt/lists" \
    -o Dir::Cache="$PWD/apt/cache" -o Acquire::Languages=none "$@"
}

# The machine's own mirrors, for Debian 12's packages as they are and for Debian 13's sources.
private_sources() {
  local signed='[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]'
  # shellcheck disable=SC2016 # apt expands these
  apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
    awk -v signed="$signed" '
      $2 ~ /^(bookworm|oldstable)(-security|-updates)?$/ && $3 == "main" { print "deb", signed, $0 }
      $2 ~ /^(bookworm|oldstable)$/ && $3 == "main" { print "deb-src", signed, $1, "trixie main" }'
}

fetch_sources() {
  local version
  mkdir -p apt/lists/partial apt/cache/archives/partial
  private_sources >apt/sources.list
  cat apt/sources.list
  private_apt update || echo "not every source could be read; going on with those that could"
  private_apt source timescaledb
  # The server's headers come unpacked here, not installed: the package would bring two compilers, and with them upgrades that nobody
  # asked for. They should be of the very release that is installed; an older one of the same major version does too.
  version=$(postgres_version)
  private_apt download "postgresql-server-dev-15=$version" || private_apt download postgresql-server-dev-15
  dpkg-deb --extract postgresql-server-dev-15_*.deb .
  cp usr/include/postgresql/15/server/pg_config*.h usr/include/postgresql/ # where libpq-dev would have put them, for cmake's check
}

compile_timescaledb() {
  # pg_config, too, looks beside itself: it finds the headers here and installs here
  cmake -S "timescaledb-$timescaledb_version+dfsg" -B build -DCMAKE_BUILD_TYPE=Release -DPG_CONFIG="$PWD/usr/lib/postgresql/15/bin/pg_config" \
    -DAPACHE_ONLY=1 -DREGRESS_CHECKS=OFF -DUSE_OPENSSL=OFF -DUSE_TELEMETRY=OFF -DSEND_TELEMETRY_DEFAULT=OFF
  make -C build -j"$(nproc)"
  make -C build install
}

make_tree() {
  local new tree=$cache/$tree_name
  mkdir -p "$cache"
  exec 8>"$cache/lock"
  flock 8 # several checkouts share the cache
  [ -z "$(find_tree)" ] || return 0
  rm -rf "$cache"/new.*
  new=$(mktemp -d "$cache/new.XXXXXX")
  chmod 755 "$new"
  mkdir -p "$new"/usr/{lib,share}/postgresql "$new"/tree/{lib,share}
  cp -a /usr/lib/postgresql/15 "$new/usr/lib/postgresql/"
  cp -a /usr/share/postgresql/15 "$new/usr/share/postgresql/"
  if has_timescaledb "$tree"; then # a minor upgrade of the machine's PostgreSQL: the extension's binary interface is the major version's
    cp -a "$tree"/lib/postgresql/15/lib/timescaledb* "$new/usr/lib/postgresql/15/lib/"
    cp -a "$tree"/share/postgresql/15/extension/timescaledb* "$new/usr/share/postgresql/15/extension/"
  else
    (
      cd "$new" || exit
      fetch_sources
      compile_timescaledb
    )
  fi
  mv "$new/usr/lib/postgresql" "$new/tree/lib/"
  mv "$new/usr/share/postgresql" "$new/tree/share/"
  "$new/tree/lib/postgresql/15/bin/postgres" --version
  postgres_version >"$new/tree/complete"
  [ ! -e "$tree" ] || mv "$tree" "$new/old"
  mv "$new/tree" "$tree"
  rm -rf "$new"
}
