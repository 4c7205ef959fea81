//! Writing and reading messages by a profile, from either end of the line.

use super::{Dialog, LineProfile, Operation, Template, Value, Values};
use iso8583::{Message, Mti, Path};
use std::borrow::Cow;

/// A value that the dialect cannot say, or that is missing: nothing may be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The dialect has no such message.
    #[error("the profile has no message {0}")]
    NoMessage(&'static str),
    /// A value that is needed is not known.
    #[error("field {0} needs {1}, which is not known")]
    Missing(Path, &'static str),
    /// The bank has no name for the product.
    #[error("the profile names no product {0}")]
    Product(String),
    /// A value does not fit its field.
    #[error(transparent)]
    Encode(#[from] iso8583::EncodeError),
}

/// A message that contradicts what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Of another kind.
    #[error("it is no answer to {0}")]
    Kind(&'static str),
    /// An echoed field is not what was sent.
    #[error("field {0} is not what was sent")]
    Echo(u8),
    /// A field that is needed is not there, or is not what it should be.
    #[error("field {0} is missing or malformed")]
    Field(Path),
}

/// Which part in a dialog a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It asks; whether again.
    Request {
        /// Whether it is marked as a repeat.
        is_repeat: bool,
    },
    /// It answers.
    Answer,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response code.
    pub code: String,
    /// What else it carries.
    pub values: Values,
}

/// What an answer is matched to its request by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatchKey(Box<[u8]>);

impl LineProfile {
    fn dialog(&self, operation: Operation) -> Result<&Dialog, Unfit> {
        self.dialogs.get(&operation).ok_or(Unfit::NoMessage(operation.name()))
    }

    /// A request, for the first time or again. It may turn out not to fit the spec when it is written.
    pub fn compose(&self, operation: Operation, values: &Values, is_repeat: bool) -> Result<Message, Unfit> {
        let dialog = self.dialog(operation)?;
        let mti = if is_repeat { dialog.mti.repeat() } else { dialog.mti };
        let mut message = Message::new(mti);
        for (path, template) in &dialog.fields {
            match self.written(template, values)? {
                Some(text) => message.set(path.clone(), &text),
                None => return Err(Unfit::Missing(path.clone(), template.name())),
            }
        }
        Ok(message)
    }

    /// An answer: what is echoed, the code, and of the other values those that are known. It may turn out not to fit
    /// the spec when it is written.
    pub fn answer(
        &self,
        operation: Operation,
        request: &Message,
        code: &str,
        values: &Values,
    ) -> Result<Message, Unfit> {
        let dialog = self.dialog(operation)?;
        let mti = request.mti().answer().ok_or(Unfit::NoMessage(operation.name()))?;
        let mut message = Message::new(mti);
        for field in &dialog.echo {
            copy(request, &mut message, *field);
        }
        for (path, template) in &dialog.answer {
            if *template == Template::Value(Value::Code) {
                message.set(path.clone(), code);
            } else if let Some(text) = self.written(template, values)? {
                message.set(path.clone(), &text);
            }
        }
        Ok(message)
    }

    /// A value in the bank's own form; none if it is not known.
    fn written<'v>(
        &'v self,
        template: &'v Template,
        values: &'v Values,
    ) -> Result<Option<Cow<'v, str>>, Unfit> {
        let value = match template {
            Template::Constant(text) => return Ok(Some(Cow::Borrowed(text))),
            Template::Value(value) => *value,
        };
        let text = match value {
            Value::Institution => return Ok(Some(Cow::Borrowed(&self.institution))),
            Value::OriginalMti => return Ok(self.dialogs.get(&Operation::Payment).map(Dialog::written_mti)),
            // A question that has no number of its own has the original's.
            _ => values.get(value).or_else(|| values.get(value.own()?)),
        };
        let Some(text) = text else { return Ok(None) };
        Ok(Some(match value {
            Value::Amount if text != "0" && self.amount_decimals > 0 => {
                Cow::Owned(format!("{text}{:0>1$}", "", self.amount_decimals))
            }
            Value::Product => {
                Cow::Borrowed(self.bank_product(text).ok_or_else(|| Unfit::Product(text.to_owned()))?)
            }
            _ => Cow::Borrowed(text),
        }))
    }

    fn bank_product<'v>(&'v self, ours: &'v str) -> Option<&'v str> {
        if self.products.is_empty() {
            return Some(ours);
        }
        self.products.iter().find(|(known, _)| known.as_str() == ours).map(|(_, theirs)| theirs.as_str())
    }

    /// Which operation a message belongs to, by its type and by what its table always has.
    pub fn operation_of(&self, message: &Message) -> Option<(Operation, Part)> {
        let mti = message.mti();
        self.dialogs.iter().find_map(|(operation, dialog)| {
            let part = dialog.part(mti)?;
            let is_its = |(path, template): &(Path, Template)| match template {
                Template::Constant(text) if path.part.is_none() => {
                    let is_there = part != Part::Answer || dialog.echo.contains(&path.field);
                    !is_there || message.get(path.field) == Some(text)
                }
                _ => true,
            };
            dialog.fields.iter().all(is_its).then_some((*operation, part))
        })
    }

    /// The values of a request, on the bank's side. What the table has must be there.
    pub fn read_request(&self, operation: Operation, message: &Message) -> Result<Values, Mismatch> {
        let dialog = self.dialogs.get(&operation).ok_or(Mismatch::Kind(operation.name()))?;
        let mut values = Values::new();
        for (path, template) in &dialog.fields {
            let text = message.get(path.clone()).ok_or_else(|| Mismatch::Field(path.clone()))?;
            self.read(path, template, text, &mut values)?;
        }
        Ok(values)
    }

    /// What an answer says. What was echoed must be what was sent; of the rest, whatever is there is read.
    pub fn read_answer(
        &self,
        operation: Operation,
        request: &Message,
        answer: &Message,
    ) -> Result<Answer, Mismatch> {
        let dialog = self.dialogs.get(&operation).ok_or(Mismatch::Kind(operation.name()))?;
        if request.mti().answer() != Some(answer.mti()) {
            return Err(Mismatch::Kind(operation.name()));
        }
        for field in &dialog.echo {
            if !is_echoed(request, answer, *field) {
                return Err(Mismatch::Echo(*field));
            }
        }
        let mut values = Values::new();
        for (path, template) in &dialog.answer {
            if let Some(text) = answer.get(path.clone()) {
                self.read(path, template, text, &mut values)?;
            }
        }
        let code = values.get(Value::Code).ok_or_else(|| Mismatch::Field(Path::from(39)))?.to_owned();
        Ok(Answer { code, values })
    }

    /// The values of an answer whose request is not known: what was echoed, as it is, and what it adds.
    pub fn read_unasked(&self, operation: Operation, answer: &Message) -> Option<Values> {
        let dialog = self.dialogs.get(&operation)?;
        let mut values = Values::new();
        let echoed = dialog.fields.iter().filter(|(path, _)| dialog.echo.contains(&path.field));
        for (path, template) in echoed.chain(&dialog.answer) {
            if let Some(text) = answer.get(path.clone()) {
                self.read(path, template, text, &mut values).ok()?;
            }
        }
        Some(values)
    }

    fn read(
        &self,
        path: &Path,
        template: &Template,
        text: &str,
        values: &mut Values,
    ) -> Result<(), Mismatch> {
        let wrong = || Mismatch::Field(path.clone());
        match template {
            Template::Constant(constant) => {
                if constant != text {
                    return Err(wrong());
                }
            }
            Template::Value(Value::Amount) if text != "0" => {
                let zeros = "0".repeat(self.amount_decimals);
                values.set(Value::Amount, text.strip_suffix(&zeros).ok_or_else(wrong)?);
            }
            Template::Value(Value::Product) => {
                let ours = self.products.iter().find(|(_, theirs)| *theirs == text);
                match ours {
                    Some((ours, _)) => values.set(Value::Product, ours.as_str()),
                    None if self.products.is_empty() => values.set(Value::Product, text),
                    None => return Err(wrong()),
                }
            }
            // Whose it is, is no news: it must be the profile's.
            Template::Value(Value::Institution) if text != self.institution => return Err(wrong()),
            Template::Value(value) => values.set(*value, text),
        }
        Ok(())
    }

    /// What an answer and its request have in common; `None` if a field of it is not there.
    pub fn match_key(&self, message: &Message) -> Option<MatchKey> {
        let mti = message.mti().answer().unwrap_or(message.mti());
        let mut key = Vec::with_capacity(48);
        key.extend_from_slice(mti.as_str().as_bytes());
        for field in &self.matched {
            key.push(0);
            key.extend_from_slice(message.get_bytes(*field)?);
        }
        Some(MatchKey(key.into_boxed_slice()))
    }
}

impl Template {
    fn name(&self) -> &'static str {
        match self {
            Self::Constant(_) => "a constant",
            Self::Value(value) => value.name(),
        }
    }
}

impl Dialog {
    fn written_mti(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.mti.as_str())
    }

    fn part(&self, mti: Mti) -> Option<Part> {
        if mti == self.mti {
            return Some(Part::Request { is_repeat: false });
        }
        if mti == self.mti.repeat() {
            return Some(Part::Request { is_repeat: true });
        }
        (Some(mti) == self.mti.answer()).then_some(Part::Answer)
    }
}

fn copy(request: &Message, answer: &mut Message, field: u8) {
    if let Some(bytes) = request.get_bytes(field) {
        return answer.set_bytes(field, bytes);
    }
    for path in request.paths().into_iter().filter(|path| path.field == field) {
        if let Some(text) = request.get(path.clone()) {
            answer.set(path, text);
        }
    }
}

/// Parts beyond those that were sent may have been added.
fn is_echoed(request: &Message, answer: &Message, field: u8) -> bool {
    if request.get_bytes(field).is_some() {
        return request.get_bytes(field) == answer.get_bytes(field);
    }
    let mut sent = request.paths().into_iter().filter(|path| path.field == field);
    sent.all(|path| request.get(path.clone()) == answer.get(path))
}
