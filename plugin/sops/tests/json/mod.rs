//! JSON as two programs may spell it: order and duplicate keys count, the spelling of numbers does not.
//!
//! A reader of its own, because `serde_json` drops duplicates and rounds numbers its own way.

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// An integer with all its digits, or a double.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Integer(i64),
    Double(f64),
}

impl PartialEq for Number {
    /// `1`, `1.0` and `1e0` are one number; integers are never compared as doubles.
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits() || a == b,
            #[expect(clippy::cast_precision_loss, reason = "one side has no more than a double's precision")]
            (Self::Integer(a), Self::Double(b)) | (Self::Double(b), Self::Integer(a)) => a as f64 == b,
        }
    }
}

impl Json {
    /// Every value of a text that holds one after the other; panics where it is no JSON.
    pub(crate) fn lines(text: &[u8]) -> Vec<Self> {
        let mut reader = Reader { text: std::str::from_utf8(text).expect("UTF-8"), at: 0 };
        let mut values = Vec::new();
        while reader.peek().is_some() {
            values.push(reader.value());
        }
        values
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\r', '\n']);
        self.at = self.text.len() - rest.len();
        rest.bytes().next()
    }

    fn take(&mut self, byte: u8) {
        assert_eq!(self.peek(), Some(byte), "at byte {}", self.at);
        self.at += 1;
    }

    /// Steps over a comma, or over the end of a list or object.
    fn more(&mut self, end: u8) -> bool {
        let found = self.peek();
        self.at += 1;
        assert!(found == Some(b',') || found == Some(end), "at byte {}", self.at);
        found == Some(b',')
    }

    fn value(&mut self) -> Json {
        match self.peek().expect("a value") {
            b'"' => Json::Text(self.string()),
            b'[' => {
                self.take(b'[');
                let mut list = Vec::new();
                if self.peek() == Some(b']') {
                    self.take(b']');
                    return Json::List(list);
                }
                loop {
                    list.push(self.value());
                    if !self.more(b']') {
                        return Json::List(list);
                    }
                }
            }
            b'{' => {
                self.take(b'{');
                let mut object = Vec::new();
                if self.peek() == Some(b'}') {
                    self.take(b'}');
                    return Json::Object(object);
                }
                loop {
                    self.peek();
                    let key = self.string();
                    self.take(b':');
                    object.push((key, self.value()));
                    if !self.more(b'}') {
                        return Json::Object(object);
                    }
                }
            }
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Json {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))).unwrap_or(rest.len());
        self.at += end;
        match &rest[..end] {
            "null" => Json::Null,
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            word => Json::Number(match word.parse() {
                Ok(integer) => Number::Integer(integer),
                Err(_) => Number::Double(word.parse().unwrap_or_else(|_| panic!("no JSON: {word}"))),
            }),
        }
    }

    fn string(&mut self) -> String {
        let start = self.at;
        let bytes = self.text.as_bytes();
        assert_eq!(bytes[start], b'"');
        let mut end = start + 1;
        while bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        serde_json::from_str(&self.text[start..=end]).expect("a JSON string")
    }
}
