#!/usr/bin/env php
<?php
// Bayar pajak kendaraan lewat API esamsat, dengan PHP dan curl. / Pays a vehicle tax through esamsat, with PHP.
//
//   php examples/pay.php [BASE_URL]
//
// stdout: satu jawaban JSON per baris, apa adanya; keterangan ke stderr.
// stdout: one JSON answer a line, as it came; remarks go to stderr.
// Kode keluar / exit code: 0 CONFIRM, 1 ditolak atau REFUND / refused or REFUND,
// 75 belum pasti / not known yet: JANGAN cek tagihan ulang / do NOT inquire again, ask status_invoice later.
declare(strict_types=1);

function setting(string $name, string $default): string
{
    $value = getenv($name);
    return $value === false || $value === '' ? $default : $value;
}

define('BASE_URL', rtrim($argv[1] ?? setting('ESAMSAT_URL', 'http://127.0.0.1:8080'), '/'));
define('CREDENTIALS', [
    'username' => setting('ESAMSAT_USERNAME', 'dummy'),
    'password' => setting('ESAMSAT_PASSWORD', 'dummy123'),
]);
define('VEHICLE', [
    'product' => setting('ESAMSAT_PRODUCT', 'SAMSAT_JABAR'),
    'customer_number' => setting('ESAMSAT_CUSTOMER_NUMBER', '320111111111111'),
    'structure_number' => setting('ESAMSAT_STRUCTURE_NUMBER', 'MH328D204AK4010000'),
]);

// The gateway answers within 60 s; waiting a little longer means that no answer is ever missed.
const CONNECT_TIMEOUT_SECONDS = 10;
const TIMEOUT_SECONDS = 65;
define('WAIT_SECONDS_MAX', (int) setting('ESAMSAT_WAIT_SECONDS', '300'));
const ATTEMPTS_MAX = 5;

const EXIT_REFUSED = 1;
const EXIT_NOT_KNOWN = 75;

function remark(string $text): void
{
    fwrite(STDERR, $text . "\n");
}

/** @return never */
function finish(int $code, string $text): void
{
    remark($text);
    exit($code);
}

/**
 * Sends one request, prints the answer and returns it, read. Null if there is no answer, which means that
 * nobody knows whether the gateway did what it was asked.
 */
function call(string $endpoint, array $parameters = []): ?array
{
    for ($attempt = 1; $attempt <= ATTEMPTS_MAX; $attempt++) {
        $retry_after_seconds = 5;
        $curl = curl_init(BASE_URL . '/json/esamsat/' . $endpoint);
        curl_setopt_array($curl, [
            CURLOPT_POST => true,
            // An array is sent as multipart/form-data; http_build_query() would make it urlencoded. Both are read.
            CURLOPT_POSTFIELDS => CREDENTIALS + $parameters,
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_CONNECTTIMEOUT => CONNECT_TIMEOUT_SECONDS,
            CURLOPT_TIMEOUT => TIMEOUT_SECONDS,
            CURLOPT_HEADERFUNCTION => function ($curl, string $line) use (&$retry_after_seconds): int {
                if (preg_match('/^retry-after:\s*(\d{1,4})\s*$/i', $line, $match)) {
                    $retry_after_seconds = min((int) $match[1], 60);
                }
                return strlen($line);
            },
        ]);
        $body = curl_exec($curl);
        $http_status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
        if ($body === false) {
            remark("$endpoint: " . curl_error($curl));
            return null;
        }
        if ($http_status === 503 || $http_status === 429) {
            // The same request may be sent again, when the gateway says so: one invoice is never paid twice.
            remark("$endpoint: HTTP $http_status, mencoba lagi / again in $retry_after_seconds s");
            sleep($retry_after_seconds);
            continue;
        }
        $answer = json_decode($body, true);
        if (!is_array($answer)) {
            remark("$endpoint: HTTP $http_status tanpa JSON / without JSON");
            return null;
        }
        echo $body, "\n";
        return $answer;
    }
    return null;
}

/**
 * Asks until the outcome is known. PENDING, or no answer at all, is not a failure: the bank may have taken
 * the payment. So ask, with growing pauses, and never pay the bill on a new invoice meanwhile.
 */
function wait_for_outcome(string $invoice, bool $pay_refused): string
{
    $give_up_at = time() + WAIT_SECONDS_MAX;
    $pause_seconds = 2;
    while (true) {
        $status = call('status_invoice', ['invoice' => $invoice])['status'] ?? '?';
        if (in_array($status, ['CONFIRM', 'REFUND'], true)) {
            return $status;
        }
        if ($status === 'INQUIRY' && $pay_refused) {
            return $status; // refused before anything was taken
        }
        if (time() >= $give_up_at) {
            finish(
                EXIT_NOT_KNOWN,
                "Invoice $invoice belum pasti: tanyakan status_invoice lagi nanti. / Not known yet: ask again later."
            );
        }
        remark("Status $status, ditanyakan lagi / asked again in $pause_seconds s");
        sleep($pause_seconds);
        $pause_seconds = min($pause_seconds * 2, 30);
    }
}

// 1. Daftar produk / the products.
$products = call('list_esamsat');
if ($products === null) {
    finish(EXIT_NOT_KNOWN, 'Tidak ada jawaban. / No answer.');
}
if (isset($products['result'])) {
    finish(EXIT_REFUSED, 'Ditolak / refused: ' . $products['reason']);
}

// 2. Cek tagihan / the bill.
$bill = call('inquiry_esamsat', VEHICLE);
if ($bill === null) {
    finish(EXIT_NOT_KNOWN, 'Tidak ada jawaban, tidak ada yang terpotong. / No answer, nothing was taken.');
}
if ($bill['result'] !== 'ok') {
    finish(EXIT_REFUSED, 'Ditolak / refused: ' . $bill['reason']);
}
$invoice = $bill['invoice'];
remark("Invoice $invoice: {$bill['customer_name']}, {$bill['license_plate']}, total Rp {$bill['total']}");
// From here on a real integration has the invoice number on disk: it is what finds the payment again.

// 3. Bayar / pay.
$payment = call('pay_esamsat', ['invoice' => $invoice]);

// 4. Status, sampai pasti / until it is known.
$status = wait_for_outcome($invoice, ($payment['result'] ?? '') === 'no');

// 5. Bayar lagi, untuk melihat bahwa tidak pernah terbayar dua kali. / Pay again, to see that nothing is ever
// paid twice. A real integration does not do this.
if ($status === 'CONFIRM' || $status === 'REFUND') {
    if (call('pay_esamsat', ['invoice' => $invoice]) === null) {
        remark('Tidak ada jawaban. / No answer.');
    }
}

if ($status !== 'CONFIRM') {
    finish(EXIT_REFUSED, "Tidak terbayar / not paid ($status): " . ($payment['reason'] ?? 'saldo dikembalikan / the balance was returned'));
}
remark("Lunas / paid: invoice $invoice");
