# What PgBouncer's configuration and its console say. "only" of the environment are names, a line each;
# where it is not empty nothing else counts.
#
# mode "list": the configuration's [databases] as NAME, HOST, PORT with a tab between.
# mode "move": the configuration, in which the entries at a place of "old" of the environment ("HOST PORT"
# lines) have new_host and new_port.
# mode "shown": of the answer to SHOW DATABASES (tabs between) the names, quoted, whose "HOST PORT" is a
# line of "places" (with elsewhere=1: is none), and with paused=1 only those that are paused.

function blank(c) { return c == " " || c == "\t" || c == "\r" }
function skip(at) { while (blank(substr($0, at, 1))) at++; return at }
function wanted() { return ENVIRON["only"] == "" || index("\n" ENVIRON["only"] "\n", "\n" name "\n") }

# Reads key and value from "at" on; gives the place behind them, or 0 where there are none.
function pair(at, c) {
  key = value = ""
  for (; (c = substr($0, at, 1)) != "" && c != "=" && !blank(c); at++) key = key c
  at = skip(at)
  if (key == "" || substr($0, at, 1) != "=") return 0
  from = at = skip(at + 1)
  if (substr($0, at, 1) != "'") {
    for (; (c = substr($0, at, 1)) != "" && !blank(c); at++) value = value c
    return at
  }
  for (at++; (c = substr($0, at, 1)) != ""; at++) {
    if (c == "'" && substr($0, at + 1, 1) != "'") return at + 1
    if (c == "'") at++
    value = value c
  }
  return 0
}

# Reads the line as NAME = CONNECTION STRING; false where it is none.
function entry(at, c) {
  name = host = ""; port = "5432"; host_from = port_from = 0
  at = skip(1)
  if (substr($0, at, 1) == "\"") {
    for (at++; (c = substr($0, at, 1)) != "\"" || substr($0, at + 1, 1) == "\""; at++) {
      if (c == "") return 0
      if (c == "\"") at++
      name = name c
    }
    at++
  } else {
    for (; (c = substr($0, at, 1)) ~ /[A-Za-z0-9_.*-]/; at++) name = name c
  }
  at = skip(at)
  if (name == "" || substr($0, at, 1) != "=") return 0
  for (at = skip(at + 1); at <= length($0); at = skip(at)) {
    if (!(at = pair(at))) return 0
    if (key == "host") { host = value; host_from = from; host_to = at }
    if (key == "port") { port = value; port_from = from; port_to = at }
  }
  return 1
}

# What stands from..to of the line becomes "text".
function put(from, to, text) { $0 = substr($0, 1, from - 1) text substr($0, to) }

function move() {
  if (!index("\n" ENVIRON["old"] "\n", "\n" host " " (port + 0) "\n")) return
  if (port_from > host_from) put(port_from, port_to, new_port)
  if (!port_from && port + 0 != new_port + 0) put(host_to, host_to, " port=" new_port)
  put(host_from, host_to, new_host)
  if (port_from && port_from < host_from) put(port_from, port_to, new_port)
}

BEGIN { if (mode == "shown") FS = "\t" }

mode == "shown" && !("name" in column) {
  # Complaints about other commands may come first.
  if ($1 == "name") for (i = 1; i <= NF; i++) column[$i] = i
  next
}
mode == "shown" {
  name = $column["name"]
  at = index("\n" ENVIRON["places"] "\n", "\n" $column["host"] " " $column["port"] "\n") > 0
  if (name == "pgbouncer" || !wanted() || at == elsewhere || paused && $column["paused"] != 1) next
  gsub(/"/, "\"\"", name)
  print "\"" name "\""
  next
}

/^[ \t]*\[/ { inside = $0 ~ /^[ \t]*\[databases\]/ }
inside && /^[ \t]*[^ \t;#%[]/ && entry() {
  if (mode == "list") print name "\t" host "\t" port
  if (mode == "move" && wanted()) move()
}
mode == "move" { print }
