# Tests the packaged service on an empty Debian, as root in a temporary container. Each "== " line is a result.
trap "journalctl -u tillhook -o cat --no-pager -n 15" ERR
secret=whsec_aContainersSecret
say() { { set +x; } 2>/dev/null; echo "== $*, ${SECONDS}s"; set -x; }
show() { systemctl show "$1" -p "$2" --value; }
# not COMMAND…: succeeds if it fails. A command after "!" never ends the script.
not() { if "$@"; then return 1; fi; }
# until_is COMMAND…: waits until the command succeeds, at most 20 s.
until_is() { { set +x; } 2>/dev/null; for _ in $(seq 200); do if "$@" &>/dev/null; then set -x; return 0; fi; sleep 0.1; done; set -x; return 1; }
started() { [[ $(show tillhook MainPID) != "$1" && $(systemctl is-active tillhook) == active ]]; }
# stream FROM COUNT: sends COUNT events and prints how often each answer came.
stream() { SENDER_URL=${url:-http://127.0.0.1:8080/webhooks/stripe} SENDER_SECRET=$secret SENDER_FROM=$1 SENDER_COUNT=$2 sender; }
# beside FROM COUNT COMMAND…: runs the command in the middle of a stream.
beside() {
	local from=$1 count=$2
	shift 2
	stream "$from" "$count" >/tmp/stream &
	local stream=$!
	sleep 0.5
	"$@"
	wait "$stream"
	result=$(cat /tmp/stream)
}
events() { tillhook events --json --limit 1 | sed 's/.*"sequence":\([0-9]*\).*/\1/'; }
none() { [[ $result == *'"Refused":0,'* && $result == *'"Others":0'* ]]; }
unbroken() { none && [[ $result == *'"Broken":0,"Unavailable":0,'* ]]; }

cp /packages/first/tillhook_0.1.0_amd64.deb /root
cd /root
echo "$secret" | bash -eux /ct/install.sh
until_is systemctl is-active tillhook
[[ $(systemctl is-enabled tillhook.service tillhook.socket tillhook-operator.socket | sort -u) == enabled ]]
[[ $(stat -c '%a %U' /etc/tillhook/stripe_webhook_secret) == '600 root' ]]
[[ $(show tillhook StatusText) == 'test mode: 0 events, 0 payments, no event yet' ]]
stream 0 100
[[ $(events) == 100 ]]
until_is bash -c "systemctl show tillhook -p StatusText | grep -q '100 events, 100 payments, last event'"
not bash -c "journalctl -u tillhook -o cat | grep 'level=\(WARN\|ERROR\)'"
[[ -z $(journalctl -u tillhook -q -o cat -p warning) ]]
say "installed: $(show tillhook StatusText)"

# Only members of the group may use the operator socket.
[[ $(stat -c '%a %U %G' /run/tillhook/operator.sock) == '660 root tillhook' ]]
useradd --system --groups tillhook clerk
useradd --system outsider
cd /
su -s /bin/bash clerk -c 'tillhook payments --limit 1' | grep -q pi_
not su -s /bin/bash outsider -c 'tillhook payments --limit 1'
[[ $(stat -c %a /var/lib/private/tillhook) == 700 && $(stat -c %a /var/lib/private/tillhook/ledger.db) == 600 ]]
not su -s /bin/bash clerk -c 'cat /var/lib/tillhook/ledger.db >/dev/null'

# As root, the doctor reads the settings of the service. As another user, it reports what that user may see.
tillhook doctor --offline >/root/examination
cat /root/examination
grep -q "^ok *environment .*(/etc/tillhook/tillhook.env) is complete" /root/examination
grep -q "^ok *data_dir .*/var/lib/tillhook" /root/examination
grep -q "^ok *inside " /root/examination
not grep -q "^\(fail\|warn\)" /root/examination
su -s /bin/bash clerk -c 'tillhook doctor --offline' >/root/examination
grep -q "^unknown *environment .*run this as root" /root/examination
grep -q "^ok *receiver " /root/examination

pid=$(show tillhook MainPID)
beside 1000 2000 systemctl restart tillhook
started "$pid"
unbroken
[[ $(events) == 2100 ]]
say "restart in a stream of 2000: $result"

pid=$(show tillhook MainPID)
beside 3000 2000 bash -c 'systemctl reload tillhook; sleep 0.3; systemctl reload tillhook'
unbroken
[[ $(events) == 4100 && $(show tillhook MainPID) == "$pid" ]]
journalctl -u tillhook -o cat | grep -q 'from a credential: a change needs a restart'
say "two reloads in a stream of 2000: $result"

pid=$(show tillhook MainPID)
beside 5000 2000 kill -9 "$pid"
started "$pid"
none
[[ $(events) == 6100 ]]
say "kill -9 in a stream of 2000: $result"

pid=$(show tillhook MainPID)
mkdir -p /run/systemd/system/tillhook.service.d
printf '[Service]\nWatchdogSec=2s\n' >/run/systemd/system/tillhook.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart tillhook
pid=$(show tillhook MainPID)
beside 7000 500 kill -STOP "$pid"
started "$pid"
none
[[ $(events) == 6600 ]]
until_is bash -c "journalctl -u tillhook | grep 'Watchdog timeout'"
rm -r /run/systemd/system/tillhook.service.d
systemctl daemon-reload
systemctl restart tillhook
say "stopped process, ended by the watchdog: $result"

# A wrong secret, and ten requests a second for ten seconds.
printf 'we_1QbD7sKvHadernBl\n' >/etc/tillhook/stripe_webhook_secret
systemctl restart tillhook || true
answers=$(for _ in $(seq 100); do curl -s -m 5 -o /dev/null -w '%{http_code}\n' -d '{}' http://127.0.0.1:8080/webhooks/stripe || echo "curl $?"; sleep 0.1; done | sort | uniq -c)
[[ $answers =~ ^\ *100\ 503$ ]]
sleep 6
[[ $(systemctl is-active tillhook) == failed && $(systemctl is-active tillhook.socket) == active && $(systemctl is-active tillhook-operator.socket) == active ]]
systemctl status tillhook | grep 'STRIPE_WEBHOOK_SECRET (credential) starts with "we_"\|STRIPE_WEBHOOK_SECRET starts with "we_"'
[[ $(show tillhook ExecMainStatus) == 78 ]]
state="$(show tillhook ActiveState), the socket $(systemctl is-active tillhook.socket)"
tillhook payments 2>&1 | grep -q 'not configured'
# Each of these requests starts the service again, more often than the default start limit of systemd allows.
for _ in $(seq 8); do
	until_is bash -c '[[ $(systemctl is-active tillhook) == failed ]]'
	[[ $(curl -s -m 5 -o /dev/null -w '%{http_code}' -d '{}' http://127.0.0.1:8080/webhooks/stripe) == 503 ]]
done
say "a wrong secret, 100 calls in 10 s:$answers; $state, $(journalctl -u tillhook -o cat | grep -c "we_") starts"
# After a correction the next request starts the receiver.
echo "$secret" >/etc/tillhook/stripe_webhook_secret
stream 8000 10
[[ $(systemctl is-active tillhook) == active && $(events) == 6610 ]]
say "started by the next call after the fix"
# Corrected and started while a request starts the receiver with the old settings: the start reads the new ones.
for pause in 0 0.1 0.2; do
	printf 'we_1QbD7sKvHadernBl\n' >/etc/tillhook/stripe_webhook_secret
	systemctl restart tillhook || true
	until_is bash -c '[[ $(systemctl is-active tillhook) == failed ]]'
	[[ $(curl -s -m 5 -o /dev/null -w '%{http_code}' -d '{}' http://127.0.0.1:8080/webhooks/stripe) == 503 ]]
	sleep $pause
	echo "$secret" >/etc/tillhook/stripe_webhook_secret
	systemctl start tillhook
	[[ $(systemctl is-active tillhook) == active ]]
done
say "started right after the fix"
# Faults have the priority of errors in the journal, and each line has one time.
journalctl -u tillhook -o cat -p err | grep -q 'STRIPE_WEBHOOK_SECRET.*starts with "we_"'
journalctl -u tillhook -o cat -p info | grep -q '^level=INFO msg=ready'
not bash -c "journalctl _SYSTEMD_UNIT=tillhook.service -o cat | grep '^<\|time='"

# A ledger that cannot be opened.
count=$(events)
systemctl stop tillhook.socket tillhook-operator.socket tillhook
chown root:root /var/lib/private/tillhook/ledger.db
systemctl start tillhook
pid=$(show tillhook MainPID)
sleep 4
curl -s -m 5 -d '{}' http://127.0.0.1:8080/webhooks/stripe | grep '"code":"storage_unavailable"'
[[ $(curl -s -m 5 -o /dev/null -w '%{http_code}' http://127.0.0.1:9464/readyz) == 503 ]]
systemctl status tillhook | grep 'FAULT: .*permission denied.*Next step: .*chown --reference='
journalctl -u tillhook -o cat -p err | grep -q 'the ledger cannot be opened.*permission denied.*chown --reference='
timeout 20 tillhook payments 2>&1 | grep 'permission denied'
[[ $(show tillhook MainPID) == "$pid" && $(show tillhook NRestarts) == 0 ]]
chown --reference=/var/lib/private/tillhook /var/lib/private/tillhook/ledger.db
until_is bash -c '[[ $(curl -s -m 5 -o /dev/null -w "%{http_code}" http://127.0.0.1:9464/readyz) == 200 ]]'
[[ $(events) == "$count" && $(show tillhook MainPID) == "$pid" ]]
say "a ledger of another owner: 503, and opened by the same process after a chown"

# Another program has the port of the public socket.
systemctl stop tillhook.socket tillhook-operator.socket tillhook
systemd-run --quiet --unit=shop --socket-property=ListenStream=127.0.0.1:8080 sleep infinity
systemctl reset-failed
not systemctl start tillhook
systemctl status tillhook | grep 'another program listens on 127.0.0.1:8080.*systemctl edit tillhook.socket'
journalctl -u tillhook -o cat -p err | grep -q 'another program listens on 127.0.0.1:8080'
timeout 20 tillhook payments 2>&1 | grep 'not configured'
# The start by the command above must have ended first: a restart meanwhile reports a failed job, though it succeeds.
until_is bash -c '[[ $(systemctl is-active tillhook) == failed ]]'
bash -eux /ct/port.sh
[[ $(systemctl is-active tillhook) == active ]]
url=http://127.0.0.1:8081/webhooks/stripe stream 8000 10
rm -r /etc/systemd/system/tillhook.socket.d
sed -i /TILLHOOK_LISTEN/d /etc/tillhook/tillhook.env
systemctl stop shop.socket
systemctl daemon-reload
systemctl stop tillhook.socket tillhook && systemctl start tillhook.socket tillhook
stream 8000 10
say "a public port in use, and another one"

# Another program has the port for metrics.
systemctl stop tillhook
systemd-run --quiet --unit=exporter --socket-property=ListenStream=127.0.0.1:9464 sleep infinity
systemctl start tillhook
stream 8000 10
journalctl -u tillhook -o cat -p warning | grep -q 'level=WARN msg="the port for metrics.*another program listens on .*TILLHOOK_OPERATOR_LISTEN'
curl -s --unix-socket /run/tillhook/operator.sock http://localhost/api/summary | grep -q '"operator_port","severity":"warn"'
systemctl stop exporter.socket
systemctl restart tillhook
until_is curl -sf http://127.0.0.1:9464/readyz
say "a port for metrics in use"

# Stopped until it is started again.
bash -eux /ct/stop.sh
not curl -s -m 5 http://127.0.0.1:8080/healthz
[[ $(events) == "$count" ]] # read from the file: nothing is started for it
not systemctl is-active tillhook tillhook.socket tillhook-operator.socket
systemctl enable --now tillhook.socket tillhook-operator.socket tillhook
[[ $(events) == "$count" ]]
say "stopped and disabled, enabled and started"

# The next version has another tillhook.env. The upgrade must not ask about it.
dpkg-deb -R /packages/second/tillhook_0.2.0_amd64.deb /root/next
find /root/next -name tillhook.env -exec sed -i '1i# A newer text.' {} +
dpkg-deb -Znone -b /root/next /root/next.deb
chmod 750 /etc/tillhook
cp /etc/tillhook/tillhook.env /root/settings
pid=$(show tillhook MainPID)
beside 9000 2000 dpkg -i /root/next.deb </dev/null
started "$pid"
unbroken
[[ $(events) == 8610 && $(tillhook version) == *v0.2.0* ]]
cmp /etc/tillhook/tillhook.env /root/settings
[[ $(stat -c %a /etc/tillhook) == 750 ]]
chmod 755 /etc/tillhook
say "upgrade in a stream of 2000: $result"

bash -eux /ct/encrypted.sh <<<"$secret"
[[ $(systemctl is-active tillhook) == active && ! -e /etc/tillhook/stripe_webhook_secret ]]
stream 12000 10
tillhook doctor --offline >/root/examination
not grep -q "^fail" /root/examination
tillhook send --type payment_intent.succeeded | grep "^200  applied"
say "an encrypted credential, read by commands"

# A second receiver on the same machine.
bash -eux /ct/several.sh <<<"$secret"
until_is systemctl is-active tillhook@live
[[ $(curl -s --unix-socket /run/tillhook/live/public.sock http://localhost/healthz) == ok ]]
[[ $(tillhook events --json --instance live) == *'"data":[]'* ]]
not tillhook payments --instance nope
[[ $(show tillhook@live StatusText) == 'live mode: 0 events'* && $(systemctl is-active tillhook) == active ]]
say "test and live side by side: $(show tillhook@live StatusText)"

tillhook backup /var/backups/till.db
count=$(events)
stream 13000 10
bash -eux /ct/restore.sh <<<y
[[ $(systemctl is-active tillhook tillhook.socket tillhook-operator.socket | sort -u) == active ]]
[[ $(events) == "$count" && $(stat -c %a /var/lib/private/tillhook/ledger.db) == 600 ]]
stream 13000 10
say "restored: $(events) events"

# TLS, with a certificate from a CA in this container.
/scripts/authority
bash -eux /ct/tls.sh
printf 'TILLHOOK_ACME_DIRECTORY=https://127.0.0.1:14000/dir\nTILLHOOK_ACME_CA=/etc/tillhook/authority.pem\n' >>/etc/tillhook/tillhook.env
systemctl restart tillhook
export SENDER_NAME=hooks.example.com url=https://127.0.0.1:443/webhooks/stripe
until_is curl -sk -m 5 --resolve hooks.example.com:443:127.0.0.1 https://hooks.example.com/healthz
bash -eux /ct/challenges.sh
[[ $(systemctl is-active tillhook-http.socket tillhook.socket tillhook | sort -u) == active ]]
curl -s -m 5 -o /dev/null http://127.0.0.1/
say "port 80, for challenges, of a service that runs"
# The sockets are opened again, also if a request has just started the service with an invalid configuration.
echo TILLHOOK_NOTHING=1 >>/etc/tillhook/tillhook.env
systemctl restart tillhook || true
curl -sk -m 5 https://127.0.0.1/ >/dev/null || true
sed -i /TILLHOOK_NOTHING/d /etc/tillhook/tillhook.env
for _ in $(seq 6); do tail -n 1 /ct/tls.sh | bash -ux || true; done
[[ $(systemctl is-active tillhook-http.socket tillhook.socket tillhook | sort -u) == active ]]
until_is curl -sk -m 5 --resolve hooks.example.com:443:127.0.0.1 https://hooks.example.com/healthz
say "the last of the documented lines for TLS, right after a wrong configuration"
pid=$(show tillhook MainPID)
beside 20000 2000 bash -c 'systemctl restart tillhook; sleep 0.5; systemctl reload tillhook; sleep 0.5; dpkg -i /packages/second/tillhook_0.2.0_amd64.deb; sleep 0.5; kill -9 "$(systemctl show tillhook -p MainPID --value)"'
until_is started "$pid"
none
[[ $(events) == 10631 ]]
say "restart, reload, upgrade and kill in a stream of 2000 over HTTPS: $result"
curl -s http://127.0.0.1:9464/metrics | grep tillhook_certificate_expiry

# A certificate from another ACME client, in files that only root can read.
sed -i '/TLS_DOMAIN\|ACME/d' /etc/tillhook/tillhook.env
mkdir -p /etc/letsencrypt/live/hooks.example.com
install -m 600 /ct/pebble/cert.pem /etc/letsencrypt/live/hooks.example.com/fullchain.pem
install -m 600 /ct/pebble/key.pem /etc/letsencrypt/live/hooks.example.com/privkey.pem
cp /usr/share/doc/tillhook/examples/certificate.conf /etc/systemd/system/tillhook.service.d/
systemctl daemon-reload
systemctl restart tillhook
curl -s --cacert /ct/pebble/cert.pem https://127.0.0.1/healthz | grep -q ok
say "a certificate as a credential"

count=$(events)
dpkg -r tillhook
[[ $(systemctl is-active tillhook.socket) != active && -e /var/lib/private/tillhook/ledger.db ]]
not systemctl is-active tillhook@live
dpkg -i /packages/second/tillhook_0.2.0_amd64.deb
[[ $(systemctl is-active tillhook) == active && $(systemctl is-active tillhook@live) == active && $(events) == "$count" ]]
cp /var/lib/private/tillhook/ledger.db /root/ledger.db
mkdir /var/lib/private/tillhook/backups
tillhook backup /var/lib/private/tillhook/backups/kept.db
dpkg -P tillhook | grep 'purge keeps backups'
[[ $(find /var/lib/private/tillhook* /var/lib/tillhook/ -type f | sort -u | xargs) == '/var/lib/private/tillhook/backups/kept.db /var/lib/tillhook/backups/kept.db' ]]
[[ ! -e /etc/tillhook && ! -e /run/tillhook ]]
not getent group tillhook
[[ -z $(find /etc /var/lib/systemd -name '*tillhook*') ]]
not bash -c 'systemctl list-unit-files | grep tillhook'
say "removed with its ledger kept, installed again, purged but for the backups"

# As on another machine, without the files that were made here.
rm -r /var/lib/private/tillhook/backups
cd /root
bash -eux /ct/another.sh
echo "$secret" | bash -eux /ct/install.sh
unset SENDER_NAME url
[[ $(events) == "$count" ]]
# The first event, with the settings of the service. The ledger that was moved already contains it.
bash -eux /ct/first.sh >/root/first
grep 'already_processed' /root/first
[[ $(events) == "$count" ]]
stream 30000 10
say "moved: $(events) events"
