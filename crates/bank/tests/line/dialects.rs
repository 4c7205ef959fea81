//! Dialects that are not shipped, made of those that are.

use bank::profile::LineProfile;

/// One that reverses what was not answered.
pub fn reversing() -> String {
    let text = LineProfile::builtin_text("contoh-37-80").expect("it is shipped");
    let advice = &text[text.find("[message.advice]").expect("it has an advice")..];
    let advice = &advice[..advice.find("\n[message.payment]").unwrap_or(advice.len())];
    let reversal = advice.replace("message.advice", "message.reversal").replace("\"0220\"", "\"0400\"");
    let text = text.replace("ask = \"advice\"", "ask = \"reversal\"");
    format!("{text}\n{reversal}\n[codes.reversal]\n\"00\" = \"not_paid\"\n\"25\" = \"done\"\n")
}
