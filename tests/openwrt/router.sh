# shellcheck shell=dash
# shellcheck disable=SC2034,SC2317  # what is set and defined here is for the script under test
# A router's shell library, and stand-ins for the programs that a test machine has not. Each call of one is a
# line of $CALLS. The real ones: /lib/functions.sh, /lib/functions/procd.sh and network.sh of OpenWrt.

note_call() {
	printf '%s\n' "$*" >>"$CALLS"
}

# --- /lib/functions.sh ---

config_cb() { :; }
reset_cb() {
	option_cb() { :; }
	list_cb() { :; }
}
reset_cb

append() {
	eval "$1=\"\${$1:+\${$1}\${3-\" \"}}\$2\""
}

config() {
	CONFIG_SECTION=$2
	CONFIG_SECTIONS="$CONFIG_SECTIONS $2"
	eval "CONFIG_$2_TYPE=\$1"
}

option() {
	eval "CONFIG_${CONFIG_SECTION}_$1=\$2"
	option_cb "$1" "$2"
}

list() {
	append "CONFIG_${CONFIG_SECTION}_$1" "$2"
	list_cb "$1" "$2"
}

config_load() {
	CONFIG_SECTIONS=
	eval "$(uci export "$1")"
}

config_get() {
	eval "$1=\${CONFIG_$2_$3:-\${4-}}"
}

config_get_bool() {
	config_get "$@"
	eval "set -- \"\$1\" \"\$$1\" \"\${4-}\""
	case $2 in
	1 | on | true | yes | enabled) eval "$1=1" ;;
	0 | off | false | no | disabled) eval "$1=0" ;;
	*) eval "$1=\$3" ;;
	esac
}

config_foreach() {
	local function="$1" type="$2" section kind
	shift 2
	for section in $CONFIG_SECTIONS; do
		config_get kind "$section" TYPE
		[ "$kind" != "$type" ] || "$function" "$section" "$@"
	done
}

user_exists() {
	grep -q "^$1:" "$ROOT/etc/passwd"
}

user_add() {
	note_call user_add "$@"
	echo "$1:x:$2:$3:$4:$5:$6" >>"$ROOT/etc/passwd"
	echo "$1:x:0:0:99999:7:::" >>"$ROOT/etc/shadow"
}

# --- rc.common ---

extra_command() { :; }

start() {
	start_service "$@"
	service_triggers
}

reload() {
	reload_service "$@"
}

# --- procd, netifd and others ---

procd_open_instance() { note_call procd_open_instance "$@"; }
procd_close_instance() { note_call procd_close_instance "$@"; }
procd_set_param() { note_call procd_set_param "$@"; }
procd_add_reload_trigger() { note_call procd_add_reload_trigger "$@"; }
procd_add_raw_trigger() { note_call procd_add_raw_trigger "$@"; }
procd_add_reload_mount_trigger() { note_call procd_add_reload_mount_trigger "$@"; }
network_flush_cache() { :; }
network_get_device() {
	case $2 in *[!A-Za-z0-9_]*) # as the real one, which makes a variable's name of it
		eval "$1=garbage"
		return
		;;
	esac
	eval "$1=\$(sed -n 's/^$2 //p' \"$ROOT/devices\")"
	eval "[ -n \"\$$1\" ]"
}

logger() { note_call logger "$@"; }
chown() { note_call chown "$@"; }
kill() { note_call kill "$@"; }
reload_config() { note_call reload_config; }
df() { printf 'Filesystem blocks used free\noverlay 0 0 %s\n' "$FREE_KB"; }

uci() {
	"$PYTHON" -SE "$FAKE_UCI" "$ROOT/uci.json" "$@"
}
