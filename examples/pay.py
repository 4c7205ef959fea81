#!/usr/bin/env python3
"""Bayar pajak kendaraan lewat API esamsat, dengan Python dan requests.
Pays a vehicle tax through esamsat, with Python and requests.

    examples/pay.py [BASE_URL]

stdout: satu jawaban JSON per baris, apa adanya; keterangan ke stderr.
stdout: one JSON answer a line, as it came; remarks go to stderr.
Kode keluar / exit code: 0 CONFIRM, 1 ditolak atau REFUND / refused or REFUND,
75 belum pasti / not known yet: JANGAN cek tagihan ulang / do NOT inquire again, ask status_invoice later.
"""

import os
import sys
import time

import requests

BASE_URL = (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ESAMSAT_URL", "http://127.0.0.1:8080")).rstrip("/")
CREDENTIALS = {
    "username": os.environ.get("ESAMSAT_USERNAME", "dummy"),
    "password": os.environ.get("ESAMSAT_PASSWORD", "dummy123"),
}
VEHICLE = {
    "product": os.environ.get("ESAMSAT_PRODUCT", "SAMSAT_JABAR"),
    "customer_number": os.environ.get("ESAMSAT_CUSTOMER_NUMBER", "320111111111111"),
    "structure_number": os.environ.get("ESAMSAT_STRUCTURE_NUMBER", "MH328D204AK4010000"),
}

# The gateway answers within 60 s; waiting a little longer means that no answer is ever missed.
CONNECT_TIMEOUT_SECONDS = 10
TIMEOUT_SECONDS = 65
WAIT_SECONDS_MAX = float(os.environ.get("ESAMSAT_WAIT_SECONDS", "300"))
ATTEMPTS_MAX = 5

EXIT_REFUSED = 1
EXIT_NOT_KNOWN = 75

session = requests.Session()


class NoAnswer(Exception):
    """Nobody knows whether the gateway did what it was asked."""


def remark(text):
    print(text, file=sys.stderr)


def finish(code, text):
    remark(text)
    sys.exit(code)


def retry_after_seconds(response):
    text = response.headers.get("Retry-After", "")
    return min(int(text), 60) if text.isascii() and text.isdigit() else 5


def call(endpoint, **parameters):
    """Sends one request as a form, prints the answer and returns it, read."""
    url = f"{BASE_URL}/json/esamsat/{endpoint}"
    for _ in range(ATTEMPTS_MAX):
        try:
            response = session.post(
                url, data={**CREDENTIALS, **parameters}, timeout=(CONNECT_TIMEOUT_SECONDS, TIMEOUT_SECONDS)
            )
        except requests.RequestException as error:
            # Only its kind: the text of an error may repeat the request.
            remark(f"{endpoint}: {type(error).__name__}")
            raise NoAnswer from None
        if response.status_code in (429, 503):
            # The same request may be sent again, when the gateway says so: one invoice is never paid twice.
            pause_seconds = retry_after_seconds(response)
            remark(f"{endpoint}: HTTP {response.status_code}, mencoba lagi / again in {pause_seconds} s")
            time.sleep(pause_seconds)
            continue
        try:
            # No raise_for_status: the reason stands in the body.
            answer = response.json()
        except ValueError:
            remark(f"{endpoint}: HTTP {response.status_code} tanpa JSON / without JSON")
            raise NoAnswer from None
        print(response.content.decode("utf-8"), flush=True)
        return answer
    raise NoAnswer


def wait_for_outcome(invoice, pay_refused):
    """Asks until the outcome is known. PENDING, or no answer at all, is not a failure: the bank may have
    taken the payment. So ask, with growing pauses, and never pay the bill on a new invoice meanwhile."""
    give_up_at = time.monotonic() + WAIT_SECONDS_MAX
    pause_seconds = 2
    while True:
        try:
            status = call("status_invoice", invoice=invoice)["status"]
        except NoAnswer:
            status = "?"
        if status in ("CONFIRM", "REFUND"):
            return status
        if status == "INQUIRY" and pay_refused:
            return status  # refused before anything was taken
        if time.monotonic() >= give_up_at:
            finish(
                EXIT_NOT_KNOWN,
                f"Invoice {invoice} belum pasti: tanyakan status_invoice lagi nanti. / Not known yet: ask again later.",
            )
        remark(f"Status {status}, ditanyakan lagi / asked again in {pause_seconds} s")
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, 30)


def main():
    # 1. Daftar produk / the products. 2. Cek tagihan / the bill.
    try:
        products = call("list_esamsat")
        if not isinstance(products, list):
            finish(EXIT_REFUSED, f"Ditolak / refused: {products['reason']}")
        bill = call("inquiry_esamsat", **VEHICLE)
    except NoAnswer:
        finish(EXIT_NOT_KNOWN, "Tidak ada jawaban, tidak ada yang terpotong. / No answer, nothing was taken.")
    if bill["result"] != "ok":
        finish(EXIT_REFUSED, f"Ditolak / refused: {bill['reason']}")
    invoice = bill["invoice"]
    remark(f"Invoice {invoice}: {bill['customer_name']}, {bill['license_plate']}, total Rp {bill['total']}")
    # From here on a real integration has the invoice number on disk: it is what finds the payment again.

    # 3. Bayar / pay.
    try:
        payment = call("pay_esamsat", invoice=invoice)
    except NoAnswer:
        payment = None

    # 4. Status, sampai pasti / until it is known.
    status = wait_for_outcome(invoice, pay_refused=payment is not None and payment["result"] == "no")

    # 5. Bayar lagi, untuk melihat bahwa tidak pernah terbayar dua kali. / Pay again, to see that nothing is
    # ever paid twice. A real integration does not do this.
    if status in ("CONFIRM", "REFUND"):
        try:
            call("pay_esamsat", invoice=invoice)
        except NoAnswer:
            remark("Tidak ada jawaban. / No answer.")

    if status != "CONFIRM":
        finish(EXIT_REFUSED, f"Tidak terbayar / not paid ({status}): {(payment or {}).get('reason', 'saldo dikembalikan / the balance was returned')}")
    remark(f"Lunas / paid: invoice {invoice}")


if __name__ == "__main__":
    main()
