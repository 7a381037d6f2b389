# What the two install.sh share: how they speak, and programs of Debian's packages, unpacked and not installed. To be sourced by
# bash, with $root (the repository), $name (before each message) and $logs (a directory) set.

say() { printf '%s: %s\n' "$name" "$*"; }
stop() {
  printf "$name: %s\n" "$@" >&2
  exit 1
}

# at_least HAVE WANT: is version HAVE (1.2.3) WANT or newer?
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# quietly LOG COMMAND...: runs the command, and shows what it said only if it went wrong.
quietly() {
  local log=$1
  shift
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    stop "this went wrong: $*" "its output is above and in ${log#"$root"/}"
  fi
}

# apt_download DIRECTORY PACKAGE...: downloads packages, with what they need and this machine lacks, to cache/archives there; apt
# verifies them. Nothing is installed, and no privilege is needed. A machine without package lists, as container images are, gets
# some in the directory: the machine itself stays as it is.
apt_download() {
  local dir=$1 own
  shift
  mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
  own=(-o "Dir::Cache=$dir/cache" -o Debug::NoLocking=true -o APT::Sandbox::User=)
  apt-get "${own[@]}" install --yes --download-only --reinstall --no-install-recommends "$@" && return
  own+=(-o "Dir::State::Lists=$dir/lists")
  apt-get "${own[@]}" update &&
    apt-get "${own[@]}" install --yes --download-only --reinstall --no-install-recommends "$@"
}

# install_debian TITLE HOME WANT BIN FOLDER PROGRAM... -- PACKAGE...: puts each PROGRAM into BIN, unless they are there and run: a
# link to the installed one if all of them are installed, in version WANT or newer, or else one of the packages, unpacked into FOLDER
# beside BIN. HOME is where somebody without Debian finds the program.
install_debian() {
  local title=$1 home=$2 want=$3 bin=$4 folder=$5 programs=() program version
  shift 5
  while [ "$1" != -- ]; do
    programs+=("$1")
    shift
  done
  shift
  if all_run "$bin/" "${programs[@]}"; then
    say "$title is there"
    return
  fi
  mkdir -p "$bin"
  rm -rf "$bin/../$folder" "${programs[@]/#/$bin/}"
  if all_run '' "${programs[@]}"; then
    version=$("${programs[0]}" --version | grep -Eo '[0-9]+(\.[0-9]+)+' | head -n 1)
    if at_least "${version:-0}" "$want"; then
      say "$title $version of $(command -v "${programs[0]}") is used"
      for program in "${programs[@]}"; do
        ln -sfn "$(command -v "$program")" "$bin/$program"
      done
      return
    fi
  fi
  { command -v apt-get && command -v dpkg-deb; } >/dev/null ||
    stop "$title is missing (${programs[*]}, version $want or newer), and this is no Debian or Ubuntu to take its packages from." \
      "Install it, then run this again: $home"
  unpack_debian "$title" "$bin" "$folder" "$@"
  for program in "${programs[@]}"; do
    # The libraries that came along, found from where this file is: the repository may be moved.
    cat >"$bin/$program" <<END
#!/bin/sh
root=\$(dirname "\$0")/../$folder
LD_LIBRARY_PATH=\$(echo "\$root"/usr/lib/*-linux-gnu*)
export LD_LIBRARY_PATH
exec "\$root/usr/bin/$program" "\$@"
END
    chmod 755 "$bin/$program"
    quietly "$logs/$folder.log" "$bin/$program" --version
  done
}

# all_run PREFIX PROGRAM...: do they all say their version?
all_run() {
  local prefix=$1 program
  shift
  for program in "$@"; do
    "$prefix$program" --version >/dev/null 2>&1 || return 1
  done
}

# unpack_debian TITLE BIN FOLDER PACKAGE...: unpacks the packages, and of what they need only libraries: of other programs, some of
# which would have more rights than whoever runs them, nothing is wanted.
unpack_debian() {
  local title=$1 bin=$2 folder=$3 temporary package file
  shift 3
  say "$title (Debian's packages; nothing is installed into the system) ..."
  temporary=$(mktemp -d)
  quietly "$logs/$folder.log" apt_download "$temporary" "$@"
  mkdir -p "$temporary/root"
  for file in "$temporary"/cache/archives/*.deb; do
    package=${file##*/}
    package=${package%%_*}
    case " $* lib" in
      *" $package "* | *" ${package:0:3}") quietly "$logs/$folder.log" dpkg-deb -x "$file" "$temporary/root" ;;
    esac
  done
  # Moved when whole: an interrupted run leaves nothing that looks done.
  mv "$temporary/root" "$bin/../$folder.new"
  mv "$bin/../$folder.new" "$bin/../$folder"
  rm -rf "$temporary"
}
