//! Specs as TOML, and everything that can be wrong with one: each error says where and what to do.

use crate::{
    Mti, Spec,
    encode::write_value,
    spec::{Bitmap, Content, Encoding, Field, Filler, Form, Kind, Layout, Length, Mask, Pad, Part, When},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};
use toml::Spanned;

/// Characters of one field at most, whatever its prefix could say.
const FIELD_LENGTH_MAX: usize = 9_999;

/// A spec as it is written: the whole of a file, or a table in a larger one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecFile {
    /// What errors and logs call it.
    pub name: String,
    /// A shipped spec, whose fields these replace one by one.
    #[serde(default)]
    pub extends: Option<Spanned<String>>,
    #[serde(default)]
    mti: Option<Spanned<String>>,
    #[serde(default)]
    bitmap: Option<Spanned<String>>,
    #[serde(default)]
    field: BTreeMap<Spanned<String>, Spanned<FieldFile>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldFile {
    name: String,
    kind: String,
    /// Fixed; or one of the three prefixed ones.
    length: Option<usize>,
    ll: Option<usize>,
    lll: Option<usize>,
    llll: Option<usize>,
    /// The least that a prefixed value has.
    min: Option<usize>,
    #[serde(default)]
    encoding: Option<String>,
    /// How the prefix is written, if not as the value.
    #[serde(default)]
    prefix: Option<String>,
    /// Of packed digits.
    #[serde(default)]
    filler: Option<String>,
    #[serde(default)]
    pad: Option<String>,
    #[serde(default)]
    mask: Option<String>,
    #[serde(default)]
    layout: Vec<Spanned<LayoutFile>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayoutFile {
    #[serde(default)]
    when: WhenFile,
    columns: Option<Vec<Spanned<PartFile>>>,
    tagged: Option<TaggedFile>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhenFile {
    #[serde(default)]
    mti: Vec<String>,
    #[serde(default)]
    fields: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaggedFile {
    tag: usize,
    length: usize,
    parts: Vec<Spanned<PartFile>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartFile {
    name: String,
    #[serde(default)]
    tag: Option<String>,
    kind: String,
    length: usize,
    #[serde(default)]
    pad: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    mask: Option<String>,
}

/// A spec that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SpecError {
    /// Which bytes of the text it is about.
    pub span: Option<Range<usize>>,
    /// Which field, what is wrong, and what to do.
    pub message: String,
}

impl SpecError {
    /// The line in the text, from one.
    pub fn line(&self, text: &str) -> Option<usize> {
        let start = self.span.as_ref()?.start;
        Some(1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count())
    }
}

type Built<T> = Result<T, SpecError>;

/// Says where an error is.
struct Here {
    span: Range<usize>,
    place: String,
}

impl Here {
    fn of<T>(spanned: &Spanned<T>, place: impl Into<String>) -> Self {
        Self { span: spanned.span(), place: place.into() }
    }

    fn part<T>(&self, spanned: &Spanned<T>, name: &str) -> Self {
        Self::of(spanned, format!("{}, part {name}", self.place))
    }

    fn wrong<T>(&self, what: impl std::fmt::Display) -> Built<T> {
        Err(SpecError { span: Some(self.span.clone()), message: format!("{}: {what}", self.place) })
    }

    fn kind(&self, text: &str) -> Built<Kind> {
        match Kind::parse(text) {
            Some(kind) => Ok(kind),
            None => self.wrong(format_args!("kind {text:?} is none; write one of a, n, an, ans, x+n, z, b")),
        }
    }

    fn mask(&self, text: Option<&str>) -> Built<Mask> {
        match text {
            None => Ok(Mask::Open),
            Some("personal") => Ok(Mask::Personal),
            Some("secret") => Ok(Mask::Secret),
            Some(other) => {
                self.wrong(format_args!("mask {other:?} is none; write \"personal\" or \"secret\""))
            }
        }
    }

    fn pad(&self, text: Option<&str>, kind: Kind, is_fixed: bool) -> Built<Option<Pad>> {
        let pad = match text {
            None => return Ok(None),
            Some("zeros") => Pad::Zeros,
            Some("spaces") => Pad::Spaces,
            Some(other) => {
                return self.wrong(format_args!("pad {other:?} is none; write \"zeros\" or \"spaces\""));
            }
        };
        let fits = match pad {
            Pad::Zeros => kind == Kind::Digits,
            Pad::Spaces => {
                matches!(kind, Kind::Letters | Kind::LettersAndDigits | Kind::Printable | Kind::Digits)
            }
        };
        if !is_fixed {
            return self.wrong("only what has a fixed length is padded; take the pad away");
        }
        if !fits {
            return self
                .wrong("zeros fill up digits, spaces fill up a, n, an and ans; choose another pad or kind");
        }
        Ok(Some(pad))
    }
}

impl Spec {
    /// Reads and checks a spec.
    pub fn from_toml(text: &str) -> Built<Self> {
        let file = toml::from_str(text)
            .map_err(|error| SpecError { span: error.span(), message: error.message().to_owned() })?;
        Self::build(file)
    }

    /// Checks a spec that was read as part of something larger; spans are those of the larger text.
    pub fn build(file: SpecFile) -> Built<Self> {
        let mut spec = match &file.extends {
            Some(name) => {
                let Some(spec) = Self::builtin(name.get_ref()) else {
                    let names: Vec<_> = Self::builtin_names().collect();
                    return Here::of(name, "extends").wrong(format_args!(
                        "there is no shipped spec {:?}; there are {}",
                        name.get_ref(),
                        names.join(", ")
                    ));
                };
                spec.clone()
            }
            None => Self {
                name: String::new(),
                has_packed_mti: false,
                bitmap: Bitmap::Hex { lower: false },
                fields: vec![None; 129],
            },
        };
        spec.name = file.name;
        if let Some(form) = &file.mti {
            spec.has_packed_mti = match form.get_ref().as_str() {
                "ascii" => false,
                "bcd" => true,
                other => {
                    return Here::of(form, "mti")
                        .wrong(format_args!("{other:?} is none; write \"ascii\" or \"bcd\""));
                }
            };
        }
        if let Some(form) = &file.bitmap {
            spec.bitmap = match form.get_ref().as_str() {
                "binary" => Bitmap::Binary,
                "hex" => Bitmap::Hex { lower: false },
                "hex-lower" => Bitmap::Hex { lower: true },
                other => {
                    return Here::of(form, "bitmap").wrong(format_args!(
                        "{other:?} is none; write \"binary\", \"hex\" or \"hex-lower\""
                    ));
                }
            };
        }
        for (number, field) in &file.field {
            let here = Here::of(field, format!("field {}", number.get_ref()));
            let index = match number.get_ref().parse::<usize>() {
                Ok(index)
                    if (2..=128).contains(&index)
                        && index != 65
                        && *number.get_ref() == index.to_string() =>
                {
                    index
                }
                _ => return here.wrong("fields are numbered from 2 to 128; 1 and 65 belong to the bitmaps"),
            };
            spec.fields[index] = Some(build_field(&here, field.get_ref())?);
        }
        for number in 2..=128 {
            let own = file.field.iter().find(|(key, _)| *key.get_ref() == number.to_string());
            let span = match (own, &file.extends) {
                (Some((_, field)), _) => field.span(),
                (None, Some(name)) => name.span(),
                (None, None) => continue,
            };
            check_layouts(&Here { span, place: format!("field {number}") }, &spec, number)?;
        }
        if spec.fields.iter().all(Option::is_none) {
            return Err(SpecError {
                span: None,
                message: "the spec has no fields; add [field.2] and so on, or extends".into(),
            });
        }
        Ok(spec)
    }
}

fn build_field(here: &Here, file: &FieldFile) -> Built<Field> {
    let kind = here.kind(&file.kind)?;
    let encoding = match (file.encoding.as_deref(), kind) {
        (None | Some("ascii"), Kind::Bytes) => {
            return here.wrong("bytes are written \"binary\" or \"hex\"; say which as encoding");
        }
        (None | Some("ascii"), _) | (Some("binary"), Kind::Bytes) => Encoding::Ascii,
        (Some("hex"), Kind::Bytes) => Encoding::Hex,
        (Some("bcd"), Kind::Digits) => {
            let filler = file.filler.as_deref().unwrap_or("left-0");
            match Filler::parse(filler) {
                Some(filler) => Encoding::Bcd(filler),
                None => {
                    return here.wrong(format_args!(
                        "filler {filler:?} is none; write \"left-0\", \"right-0\" or \"right-F\""
                    ));
                }
            }
        }
        (Some("bcd"), _) => {
            return here.wrong("only digits (kind \"n\") can be written as bcd; take another encoding");
        }
        (Some(other), _) => {
            return here.wrong(format_args!("encoding {other:?} is not one of kind {:?}; write \"ascii\" or \"bcd\", for bytes \"binary\" or \"hex\"", file.kind));
        }
    };
    let is_packed = matches!(encoding, Encoding::Bcd(_));
    if file.filler.is_some() && !is_packed {
        return here.wrong("only an odd count of bcd digits is filled up; take the filler away");
    }
    let given: Vec<_> = [(0, file.length), (2, file.ll), (3, file.lll), (4, file.llll)]
        .into_iter()
        .filter_map(|(digits, length)| Some((digits, length?)))
        .collect();
    let [(digits, length)] = given[..] else {
        return here.wrong("give one length: length = …, ll = …, lll = … or llll = …");
    };
    let most = if digits == 0 { FIELD_LENGTH_MAX } else { 10_usize.pow(digits) - 1 };
    if !(1..=most).contains(&length) {
        return here.wrong(format_args!("the length is {length}; it must be from 1 to {most}"));
    }
    let min = file.min.unwrap_or(1);
    if digits == 0 && file.min.is_some() {
        return here.wrong("a fixed length has no min; take it away");
    }
    if digits == 0 && file.prefix.is_some() {
        return here.wrong("a fixed length has no prefix; take it away");
    }
    let is_prefix_packed = match file.prefix.as_deref() {
        None => is_packed,
        Some("ascii") => false,
        Some("bcd") => true,
        Some(other) => {
            return here.wrong(format_args!("prefix {other:?} is none; write \"ascii\" or \"bcd\""));
        }
    };
    if min == 0 && kind == Kind::SignedDigits {
        return here.wrong("x+n has at least its C or D; min must be 1 or more");
    }
    if min > length {
        return here.wrong(format_args!("min {min} is more than the length {length}"));
    }
    let length = match digits {
        0 => Length::Fixed(length),
        digits => Length::Prefixed { digits: digits as usize, is_packed: is_prefix_packed, min, max: length },
    };
    let is_fixed = digits == 0;
    let pad = here.pad(file.pad.as_deref(), kind, is_fixed)?;
    if is_packed && pad == Some(Pad::Spaces) {
        return here.wrong("bcd has no spaces; pad with zeros");
    }
    let mut layouts = Vec::new();
    for layout in &file.layout {
        let here = Here::of(layout, format!("{}, layout {}", here.place, layouts.len() + 1));
        if kind != Kind::Printable || pad.is_some() {
            return here.wrong("only a field of kind \"ans\" without a pad can have layouts");
        }
        if min > 1 {
            return here.wrong("the parts say how short the field may be; take its min away");
        }
        layouts.push(build_layout(&here, layout.get_ref(), length)?);
    }
    Ok(Field {
        name: file.name.clone(),
        content: Content { kind, length, encoding, pad },
        mask: here.mask(file.mask.as_deref())?,
        layouts,
    })
}

fn build_layout(here: &Here, file: &LayoutFile, length: Length) -> Built<Layout> {
    let mut when = When::default();
    for text in &file.when.mti {
        match Mti::parse(text) {
            Some(mti) => when.mti.push(mti),
            None => return here.wrong(format_args!("when.mti {text:?} is no message type of version 1987")),
        }
    }
    for (number, text) in &file.when.fields {
        match number.parse() {
            Ok(number) if (2..=128_u8).contains(&number) => when.fields.push((number, text.clone())),
            _ => return here.wrong(format_args!("when.fields has {number:?}, which is no field")),
        }
    }
    let (form, files) = match (&file.columns, &file.tagged) {
        (Some(columns), None) => (Form::Columns, columns),
        (None, Some(_)) if matches!(length, Length::Fixed(_)) => {
            return here
                .wrong("tags have no fixed length together; give the field a prefix: ll, lll or llll");
        }
        (None, Some(tagged)) => {
            if !(1..=4).contains(&tagged.tag) || !(1..=4).contains(&tagged.length) {
                return here.wrong("tag and length of a tagged layout have 1 to 4 digits each");
            }
            (Form::Tagged { tag_digits: tagged.tag, length_digits: tagged.length }, &tagged.parts)
        }
        _ => return here.wrong("give either columns = […] or tagged = { tag = …, length = …, parts = […] }"),
    };
    let (mut names, mut tags) = (BTreeSet::new(), BTreeSet::new());
    let mut parts: Vec<Part> = Vec::new();
    for file in files {
        let (file, here) = (file.get_ref(), here.part(file, &file.get_ref().name));
        let is_name = !file.name.is_empty()
            && file.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !is_name {
            return here.wrong("a part's name has small letters, digits and underscores");
        }
        if !names.insert(&file.name) {
            return here.wrong("the name comes twice; rename one");
        }
        let kind = here.kind(&file.kind)?;
        if kind == Kind::Bytes {
            return here.wrong("a part is text; bytes need a field of their own");
        }
        let pad = here.pad(file.pad.as_deref(), kind, form == Form::Columns)?;
        let most = match form {
            Form::Columns => length.max(),
            Form::Tagged { length_digits, .. } => {
                10_usize.pow(u32::try_from(length_digits).expect("one to four")) - 1
            }
        };
        if !(1..=most).contains(&file.length) {
            return here.wrong(format_args!("the length is {}; it must be from 1 to {most}", file.length));
        }
        let tag = match (form, &file.tag) {
            (Form::Columns, None) => String::new(),
            (Form::Columns, Some(_)) => return here.wrong("a column has no tag; take it away"),
            (Form::Tagged { tag_digits, .. }, Some(tag))
                if tag.len() == tag_digits && tag.bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                if !tags.insert(tag) {
                    return here.wrong(format_args!("the tag {tag} comes twice"));
                }
                tag.clone()
            }
            (Form::Tagged { tag_digits, .. }, _) => {
                return here.wrong(format_args!("it needs a tag of {tag_digits} letters or digits"));
            }
        };
        if form != Form::Columns && file.optional {
            return here.wrong("every tag may be missing; take optional away");
        }
        if parts.last().is_some_and(|before| before.is_optional) && form == Form::Columns && !file.optional {
            return here.wrong("a column behind an optional one must be optional as well");
        }
        parts.push(Part {
            name: Arc::from(file.name.as_str()),
            tag,
            kind,
            length: file.length,
            pad,
            is_optional: file.optional,
            mask: here.mask(file.mask.as_deref())?,
        });
    }
    if parts.is_empty() {
        return here.wrong("a layout has at least one part");
    }
    if form == Form::Columns {
        let width: usize = parts.iter().map(|part| part.length).sum();
        let fits = match length {
            Length::Fixed(length) => width == length && !parts.iter().any(|part| part.is_optional),
            Length::Prefixed { max, .. } => width <= max,
        };
        if !fits {
            return here.wrong(format_args!(
                "the columns are {width} wide together, and the field has {}",
                length.max()
            ));
        }
    }
    Ok(Layout { when, form, parts })
}

/// What a layout depends on is read before it and can be so, and every layout is for some message.
fn check_layouts(here: &Here, spec: &Spec, number: u8) -> Built<()> {
    let Some(field) = spec.field(number) else { return Ok(()) };
    for (condition, text) in field.layouts.iter().flat_map(|layout| &layout.when.fields) {
        if *condition >= number {
            return here
                .wrong(format_args!("a layout can depend on fields before it, not on field {condition}"));
        }
        let Some(plain) = spec.field(*condition).filter(|field| field.layouts.is_empty()) else {
            return here.wrong(format_args!(
                "a layout depends on field {condition}, which is not there or has parts"
            ));
        };
        if let Err(rule) = write_value(&plain.content, text.as_bytes(), &mut Vec::new()) {
            return here.wrong(format_args!(
                "a layout depends on field {condition} being {text:?}, which it cannot be: {rule}"
            ));
        }
    }
    for (index, layout) in field.layouts.iter().enumerate() {
        if let Some(before) =
            field.layouts[..index].iter().position(|before| before.when.covers(&layout.when))
        {
            return here.wrong(format_args!(
                "layout {} is for no message: layout {} comes before it and takes them all; change their order",
                index + 1,
                before + 1
            ));
        }
    }
    Ok(())
}

impl When {
    /// Whether it holds wherever the other does.
    fn covers(&self, other: &Self) -> bool {
        let covers_types = self.mti.is_empty()
            || !other.mti.is_empty() && other.mti.iter().all(|mti| self.mti.contains(mti));
        covers_types && self.fields.iter().all(|field| other.fields.contains(field))
    }
}
