# shellcheck shell=dash
# shellcheck disable=SC2013,SC2031,SC2034,SC2317 # there are no spaces in what is listed; what is set and defined here is for the scripts under test
# What a router has in its base system, for scripts that run in the folder $ROOT: uci on /etc/config, procd with
# rc.common, what base-files does around a package's own scripts, and a daemon that can refuse to start.
# Real ones were watched for it: procd compares the command and `env` of an instance, not its `data`; what a stopped
# service is told by `stop` is an error; a changed configuration reaches a service a moment after reload_config.
#
# `step` (of managers.sh) notes each change that outlasts the power. Set by simulated.py: DAEMON_FAILS.

PROCD=$ROOT/tmp/procd # `run/NAME` of each instance that runs, `triggered` by what is to be told in a moment
DELTA=$ROOT/tmp/.uci  # what was set and not committed
mkdir -p "$PROCD/run" "$DELTA"

# --- uci, with lines such as `main=meshchat`, `main.mesh=valley`, `main.interfaces+=mesh` for a package ---------

# Prints the package $1 as it is set now; fails where it has no file.
uci_now() {
	if [ -f "$DELTA/$1" ]; then
		cat "$DELTA/$1"
	elif [ -f "$ROOT/etc/config/$1" ]; then
		awk -v quote="'" '
			function bare(text) { gsub("^" quote "|" quote "$", "", text); return text }
			$1 == "config" { name = NF > 2 ? bare($3) : "cfg" ++count; print name "=" $2 }
			$1 == "option" || $1 == "list" {
				value = $0; sub(/^[ \t]*[a-z]+[ \t]+[^ \t]+[ \t]+/, "", value)
				print name "." $2 ($1 == "list" ? "+=" : "=") bare(value)
			}' "$ROOT/etc/config/$1"
	else
		return 1
	fi
}

# Writes the lines on standard input as a file of /etc/config.
uci_file() {
	awk -v quote="'" '{
		at = index($0, "="); path = substr($0, 1, at - 1); value = quote substr($0, at + 1) quote
		kind = sub(/\+$/, "", path) ? "list" : "option"
		if (split(path, part, ".") == 1) print "\nconfig " substr($0, at + 1) " " quote path quote
		else print "\t" kind " " part[2] " " value
	}'
}

# Prints the lines on standard input in the words of /lib/functions.sh.
uci_export() {
	sed "s/'/'\\\\''/g; s/^\([^.=]*\)=\(.*\)/config '\2' '\1'/; t
		s/^[^.]*\.\([^.=]*\)+=\(.*\)/list '\1' '\2'/; t
		s/^[^.]*\.\([^.=]*\)=\(.*\)/option '\1' '\2'/"
}

uci() {
	local package path line value
	[ "$1" != -q ] || shift
	case $1 in
	batch)
		while read -r line; do
			[ -z "$line" ] || eval "uci $line" || true
		done
		return 0
		;;
	commit)
		for package in ${2:-$(ls "$DELTA")}; do
			[ -f "$DELTA/$package" ] || continue
			step "uci commit $package"
			uci_file <"$DELTA/$package" >"$ROOT/tmp/committed"
			command mv "$ROOT/tmp/committed" "$ROOT/etc/config/$package"
			rm -f "$DELTA/$package"
		done
		return 0
		;;
	export)
		# A section and its options belong together, in whatever order they were set.
		uci_now "$2" 2>/dev/null | awk -F '[.=]' '
			!($1 in lines) { order[++count] = $1 }
			{ lines[$1] = lines[$1] $0 "\n" }
			END { for (i = 1; i <= count; i++) printf "%s", lines[order[i]] }' | uci_export
		return 0
		;;
	changes)
		[ ! -f "$DELTA/$2" ] || echo "$2 changed"
		return 0
		;;
	esac
	package=${2%%.*} path=${2#*.}
	uci_now "$package" >"$ROOT/tmp/uci.now" || return 1
	case $path in
	@*)
		value=${path#@} value=${value%%\[*}
		path=$(sed -n "s/^\([^.=]*\)=$value\$/\1/p" "$ROOT/tmp/uci.now" | head -n 1).${path#*].}
		;;
	esac
	case $1 in
	get)
		line=$(sed -n "s/^${path%%=*}+\{0,1\}=//p" "$ROOT/tmp/uci.now" | tr '\n' ' ')
		[ -n "$line" ] && echo "${line% }"
		return
		;;
	set)
		value=${path#*=} path=${path%%=*}
		! grep -qxF "$path=$value" "$ROOT/tmp/uci.now" || return 0
		{ grep -v "^$path+\{0,1\}=" "$ROOT/tmp/uci.now" || true; echo "$path=$value"; } >"$DELTA/$package.new"
		case $path in
		*.*) ;;
		*) ! grep -q "^$path=" "$ROOT/tmp/uci.now" || return 0 ;;
		esac
		;;
	add_list) { cat "$ROOT/tmp/uci.now"; echo "${path%%=*}+=${path#*=}"; } >"$DELTA/$package.new" ;;
	delete)
		grep -q "^${path}[.+=]" "$ROOT/tmp/uci.now" || return 1
		grep -v "^${path}[.+=]" "$ROOT/tmp/uci.now" >"$DELTA/$package.new" || true
		;;
	*) echo "uci $1: not simulated" >&2 && return 1 ;;
	esac
	command mv "$DELTA/$package.new" "$DELTA/$package"
}

# --- Scripts of the package, which name others by their place on the router ---------------------------------------

# Runs the text on standard input as a script with the arguments given.
run_text() {
	(
		set +eu
		IPKG_INSTROOT=$ROOT
		# shellcheck disable=SC2016 # for that script to expand
		eval "$(sed -e 's|\[ -n "${IPKG_INSTROOT}" \]|false|; s|\[ -z "${IPKG_INSTROOT}" \]|true|' \
			-e 's|"${IPKG_INSTROOT-}\(/usr/share/meshchat/[a-z]*\)"|router \1|' \
			-e 's|"$ROOT\(/etc/init.d/meshchat\)"|router \1|; s|"$ROOT\(/usr/share/meshchat/[a-z-]*\)"|router \1|' \
			-e 's/^\(.*[|&] \)\{0,1\}\(\/usr\/share\/meshchat\/[a-z]* [a-z]\)/\1router \2/' \
			-e '/^\(rm\|find\) / s| /\([uv]\)| $ROOT/\1|g; s|-e /etc/|-e $ROOT/etc/|')"
	)
}

# --- rc.common and procd ------------------------------------------------------------------------------------------

extra_command() { :; }
service_triggers() { :; }

rc() {
	(
		set +eu
		IPKG_INSTROOT=$ROOT
		# shellcheck source=openwrt/meshchat/files/meshchat.init
		. "$ROOT/etc/init.d/meshchat"
		start() {
			rm -rf "$PROCD/set"
			mkdir "$PROCD/set"
			start_service
			service_set
		}
		case $1 in
		start | reload | forget)
			verb=$1
			shift
			[ "$verb" != reload ] || verb=reload_service
			"$verb" "$@"
			;;
		stop) service_delete ;;
		restart)
			service_delete
			start
			;;
		running) [ -f "$PROCD/run/daemon" ] ;;
		enable | disable)
			# Two links of /etc/rc.d.
			step "init $1"
			mkdir -p "$ROOT/etc/rc.d"
			rm -f "$ROOT/etc/rc.d/"*meshchat
			[ "$1" = disable ] || ln -s ../init.d/meshchat "$ROOT/etc/rc.d/S${START}meshchat"
			[ "$1" = disable ] || ln -s ../init.d/meshchat "$ROOT/etc/rc.d/K${STOP}meshchat"
			;;
		esac
	)
}

procd_open_instance() {
	instance=$1
}

# What procd compares is in `set/NAME`; it starts an instance anew where that differs.
procd_set_param() {
	case $1 in
	command | env | netdev | file | nice | user | group | pidfile | respawn | limits) echo "$*" >>"$PROCD/set/$instance" ;;
	data | stdout | stderr | term_timeout) ;;
	*) echo "procd_set_param $1: not simulated" >&2 ;;
	esac
}
procd_close_instance() { :; }
procd_add_reload_trigger() { :; }
procd_add_raw_trigger() { :; }
procd_add_reload_mount_trigger() { :; }

service_set() {
	: >"$PROCD/registered"
	for instance in daemon ssh; do
		if cmp -s "$PROCD/set/$instance" "$PROCD/run/$instance"; then continue; fi
		[ ! -f "$PROCD/run/$instance" ] || instance_stop
		[ ! -f "$PROCD/set/$instance" ] || instance_start
	done
	rm -rf "$PROCD/set"
}

service_delete() {
	if [ ! -f "$PROCD/registered" ]; then
		step "stop in vain"
		echo "Command failed: ubus call service delete { \"name\": \"meshchat\" } (Not found)"
		return
	fi
	for instance in daemon ssh; do
		[ ! -f "$PROCD/run/$instance" ] || instance_stop
	done
	rm -f "$PROCD/registered" "$PROCD/triggered"
}

instance_start() {
	step "$instance start"
	command cp "$PROCD/set/$instance" "$PROCD/run/$instance"
	[ "$instance" != daemon ] || daemon_start
}

instance_stop() {
	step "$instance stop"
	rm -f "$PROCD/run/$instance"
	[ "$instance" != daemon ] || daemon_stop
}

reload_config() {
	step reload_config
	cat "$ROOT/etc/config/"meshchat "$ROOT/etc/config/"network 2>/dev/null | cksum >"$PROCD/config"
	cmp -s "$PROCD/config" "$PROCD/config.before" || [ ! -f "$PROCD/registered" ] || : >"$PROCD/triggered"
	command mv "$PROCD/config" "$PROCD/config.before"
}

# A second goes by: what was triggered happens, and what was told to end has ended.
sleep() {
	daemon_end
	[ -f "$PROCD/triggered" ] || return 0
	rm -f "$PROCD/triggered"
	[ ! -f "$ROOT/etc/init.d/meshchat" ] || rc reload
}

# --- The daemon ---------------------------------------------------------------------------------------------------

PID=77
RUNNING=$ROOT/tmp/running # `version mesh` of the one that answers
ENDING=$ROOT/tmp/ending   # where one that was told to end will still write

# Prints the value of a setting in the configuration that the init script has made.
made() {
	sed -n "s/^$1 = \"\(.*\)\"/\1/p" "$ROOT/var/etc/meshchat/meshchat.toml"
}

daemon_start() {
	state=$ROOT$(made state) mesh=$(made mesh)
	mesh=${mesh:-meshchat}
	if [ "$DAEMON_FAILS" = yes ]; then
		logger -p daemon.err "The UDP port 8888 is in use."
	elif [ -f "$state/mesh.id" ] && [ "$(cat "$state/mesh.id")" != "$mesh" ]; then
		# As one does that has written anything under its first name.
		logger -p daemon.err "${state#"$ROOT"} holds another mesh: set the old mesh name again."
	else
		echo "$mesh" >"$state/mesh.id"
		[ -f "$state/router.key" ] || echo key >"$state/router.key"
		mkdir -p "$ROOT/proc/$PID"
		echo $PID >"$ROOT/var/run/meshchat.pid"
		echo "$(sed -n 's/^VERSION = "\(.*\)"/\1/p' "$ROOT/usr/lib/meshchat/meshchat/constants.py") $mesh" >"$RUNNING"
	fi
}

daemon_stop() {
	[ -f "$RUNNING" ] || return 0
	rm -f "$RUNNING" "$ROOT/var/run/meshchat.pid"
	dirname "$(ls "$ROOT$(made state)/mesh.id" 2>/dev/null)" >"$ENDING"
}

# What its users have read is written last.
daemon_end() {
	[ -f "$ENDING" ] || return 0
	mkdir -p "$(cat "$ENDING")"
	echo '{}' >"$(cat "$ENDING")/personal.jsonl"
	rm -rf "$ENDING" "$ROOT/proc/$PID"
}

# The package's own daemon in place of the stand-in, for a router whose programs were made to run here: its paths
# lie below $ROOT, and it says on standard error what it would tell syslog.
if [ -n "${REAL-}" ]; then
	daemon_start() {
		sed "s|\"/|\"$ROOT/|; s|^people_group = .*|people_group = \"8889\"|" "$ROOT/var/etc/meshchat/meshchat.toml" \
			>"$ROOT/tmp/real.toml"
		# shellcheck disable=SC2094 # it only adds
		setsid setpriv --reuid 8888 --regid 8888 --groups 8888,8889 "$ROOT/usr/bin/meshchat" daemon \
			--config "$ROOT/tmp/real.toml" >>"$ROOT/tmp/log" 2>&1 </dev/null &
		echo $! >"$ROOT/var/run/meshchat.pid"
	}

	daemon_stop() {
		command kill "$(cat "$ROOT/var/run/meshchat.pid")"
		while [ -e "/proc/$(cat "$ROOT/var/run/meshchat.pid")/exe" ]; do command sleep 0.1; done
		rm -f "$ROOT/var/run/meshchat.pid"
	}
fi

meshchat_status() {
	if [ -n "${REAL-}" ]; then
		"$ROOT/usr/bin/meshchat" status --json && return
		command sleep 0.2 # that no second goes by for the others does not start it any sooner
		return 3
	fi

	[ -f "$RUNNING" ] || return 3
	read -r version_running mesh_running <"$RUNNING"
	echo "{\"router\": \"07\", \"mesh\": \"$mesh_running\", \"version\": \"$version_running\"}"
}

logger() {
	while [ "${1#-}" != "$1" ]; do
		[ "$1" != -p ] || level=$2
		[ "$1" = -s ] || shift
		shift
	done
	echo "Sat Nov 28 10:00:00 2026 $level meshchat[$PID]: $*" >>"$ROOT/tmp/log"
}

logread() {
	cat "$ROOT/tmp/log" 2>/dev/null
}

# --- base-files, around a package's own scripts -------------------------------------------------------------------

# default_postinst PACKAGE LIST: the user first, then uci-defaults, then the services.
default_postinst() {
	add_group_and_user "$1"
	for default in $(grep -s '^/etc/uci-defaults/' "$2"); do
		[ ! -f "$ROOT$default" ] || { run_text <"$ROOT$default" && rm -f "$ROOT$default"; }
	done
	uci commit
	[ ! -f "$INFO/$1.postinst-pkg" ] || run_text <"$INFO/$1.postinst-pkg"
	for service in $(grep -s '^/etc/init.d/' "$2"); do
		[ "${PKG_UPGRADE-}" = 1 ] || router "$service" enable
		router "$service" start
	done
}

default_prerm() {
	[ ! -f "$INFO/$1.prerm-pkg" ] || run_text <"$INFO/$1.prerm-pkg"
	for service in $(grep -s '^/etc/init.d/' "$2"); do
		[ "${PKG_UPGRADE-}" = 1 ] || router "$service" disable
		router "$service" stop
	done
}

# From `user=id:group=id:group=id,...`, which opkg has in the control file and apk in a file of its own.
add_group_and_user() {
	users=$(cat "$ROOT/lib/apk/packages/$1.rusers" 2>/dev/null || sed -n 's/^Require-User: //p' "$INFO/$1.control")
	for tuple in $users; do
		user=${tuple%%:*}
		for group in $(echo "${tuple#*:}" | tr ':,' '  '); do
			grep -q "^${group%=*}:" "$ROOT/etc/group" || echo "${group%=*}:x:${group#*=}:${user%=*}" >>"$ROOT/etc/group"
		done
		group=${tuple#*:} group=${group%%:*}
		user_exists "${user%=*}" ||
			user_add "${user%=*}" "${user#*=}" "${group#*=}" "${user%=*}" "/var/run/${user%=*}" /bin/false
	done
}

# --- Others -------------------------------------------------------------------------------------------------------

# Only root may give files away; then the daemon's are its own, by number, as this machine does not know it.
chown() {
	shift
	[ "$(id -u)" != 0 ] || command chown 8888:8888 "$@"
}

ls() {
	case $1 in
	-ld) command ls "$@" | sed 's/ 8888  *8888 / meshchat meshchat /' ;;
	*) command ls "$@" ;;
	esac
}

df() {
	printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay 1 1 %s 1%% /\n' "$FREE_FLASH_KB"
}

python3() { :; }
