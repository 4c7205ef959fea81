#!/usr/bin/env bash
# Bayar pajak kendaraan lewat API esamsat, dengan curl saja. / Pays a vehicle tax through esamsat, with curl.
#
#   examples/curl.sh [BASE_URL]
#
# stdout: satu jawaban JSON per baris, apa adanya; keterangan ke stderr.
# stdout: one JSON answer a line, as it came; remarks go to stderr.
# Kode keluar / exit code: 0 CONFIRM, 1 ditolak atau REFUND / refused or REFUND,
# 75 belum pasti / not known yet: JANGAN cek tagihan ulang / do NOT inquire again, ask status_invoice later.
set -euo pipefail

base_url="${1:-${ESAMSAT_URL:-http://127.0.0.1:8080}}"
base_url="${base_url%/}"
username="${ESAMSAT_USERNAME:-dummy}"
password="${ESAMSAT_PASSWORD:-dummy123}"
product="${ESAMSAT_PRODUCT:-SAMSAT_JABAR}"
customer_number="${ESAMSAT_CUSTOMER_NUMBER:-320111111111111}"
structure_number="${ESAMSAT_STRUCTURE_NUMBER:-MH328D204AK4010000}"

# The gateway answers within 60 s; waiting a little longer means that no answer is ever missed.
timeout_seconds=65
wait_seconds_max="${ESAMSAT_WAIT_SECONDS:-300}"
attempts_max=5

headers="$(mktemp)"
body="$(mktemp)"
trap 'rm -f "$headers" "$body"' EXIT

remark() { echo "$*" >&2; }

# field NAME: a value of the last answer. Every value is a string and the JSON is on one line, so sed will do;
# a real integration uses a JSON parser.
field() { sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' <<<"$answer"; }

# call ENDPOINT [NAME=VALUE ...]: sets $answer and prints it. Fails if there is no answer, which means that
# nobody knows whether the gateway did what it was asked.
call() {
    local endpoint="$1" attempt http_status retry_after parameters=() parameter
    shift
    for parameter in "$@"; do parameters+=(--data-urlencode "$parameter"); done
    for ((attempt = 1; attempt <= attempts_max; attempt++)); do
        # The password comes through stdin, so that it stays out of the process list.
        http_status="$(printf %s "$password" | curl --silent --show-error \
            --connect-timeout 10 --max-time "$timeout_seconds" \
            --dump-header "$headers" --output "$body" --write-out '%{http_code}' \
            --data-urlencode "username=$username" --data-urlencode password@- "${parameters[@]}" \
            "$base_url/json/esamsat/$endpoint")" || return 1
        if [ "$http_status" = 503 ] || [ "$http_status" = 429 ]; then
            # The same request may be sent again, when the gateway says so: one invoice is never paid twice.
            retry_after="$(tr -d '\r' <"$headers" | sed -n 's/^[Rr]etry-[Aa]fter: *\([0-9]\{1,4\}\)$/\1/p' | tail -n 1)"
            retry_after="${retry_after:-5}"
            [ "$retry_after" -le 60 ] || retry_after=60
            remark "$endpoint: HTTP $http_status, mencoba lagi / again in $retry_after s"
            sleep "$retry_after"
            continue
        fi
        answer="$(<"$body")"
        # The application answers with a JSON object or array; anything else is some proxy's page.
        case "$answer" in
            "{"* | "["*) printf '%s\n' "$answer" && return 0 ;;
            *) remark "$endpoint: HTTP $http_status tanpa JSON / without JSON" && return 1 ;;
        esac
    done
    return 1
}

fail() { remark "$1" && exit 1; }
later() { remark "$1" && exit 75; }

# 1. Daftar produk / the products.
call list_esamsat || later "Tidak ada jawaban. / No answer."
case "$answer" in "["*) ;; *) fail "Ditolak / refused: $(field reason)" ;; esac

# 2. Cek tagihan / the bill.
call inquiry_esamsat "product=$product" "customer_number=$customer_number" \
    "structure_number=$structure_number" || later "Tidak ada jawaban, tidak ada yang terpotong. / No answer, nothing was taken."
[ "$(field result)" = ok ] || fail "Ditolak / refused: $(field reason)"
invoice="$(field invoice)"
remark "Invoice $invoice: $(field customer_name), $(field license_plate), total Rp $(field total)"
# From here on a real integration has the invoice number on disk: it is what finds the payment again.

# 3. Bayar / pay.
pay_refused=no
pay_reason="saldo dikembalikan / the balance was returned"
if call pay_esamsat "invoice=$invoice" && [ "$(field result)" = no ]; then
    pay_refused=yes
    pay_reason="$(field reason)"
fi

# 4. Status, sampai pasti / until it is known. PENDING, or no answer at all, is not a failure: the bank may
# have taken the payment. So ask, with growing pauses, and never pay the bill on a new invoice meanwhile.
pause_seconds=2
SECONDS=0
while true; do
    status=""
    if call status_invoice "invoice=$invoice"; then
        status="$(field status)"
    fi
    case "$status" in
        CONFIRM | REFUND) break ;;
        INQUIRY) [ "$pay_refused" = no ] || break ;; # refused before anything was taken
    esac
    if [ "$SECONDS" -ge "$wait_seconds_max" ]; then
        later "Invoice $invoice belum pasti: tanyakan status_invoice lagi nanti. / Not known yet: ask again later."
    fi
    remark "Status ${status:-?}, ditanyakan lagi / asked again in $pause_seconds s"
    sleep "$pause_seconds"
    pause_seconds=$((pause_seconds * 2 < 30 ? pause_seconds * 2 : 30))
done

# 5. Bayar lagi, untuk melihat bahwa tidak pernah terbayar dua kali. / Pay again, to see that nothing is ever
# paid twice. A real integration does not do this.
case "$status" in
    CONFIRM | REFUND) call pay_esamsat "invoice=$invoice" || remark "Tidak ada jawaban. / No answer." ;;
esac

[ "$status" = CONFIRM ] || fail "Tidak terbayar / not paid ($status): $pay_reason"
remark "Lunas / paid: invoice $invoice"
