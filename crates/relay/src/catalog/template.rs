//! Which resource template a URI belongs to.
//!
//! An expression (`{path}`, `{+path}`, `{?q}` …, RFC 6570) may stand for any text here: the relay only has to find the
//! backend, which then judges the URI itself. Literal text must be met exactly.

/// A template, cut at its expressions.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    literals: Vec<String>,
}

impl Template {
    pub(crate) fn new(text: &str) -> Self {
        let mut literals = vec![String::new()];
        let mut inside = false;
        for character in text.chars() {
            match (character, inside) {
                ('{', false) => inside = true,
                ('}', true) => {
                    inside = false;
                    literals.push(String::new());
                }
                (_, true) => {}
                (other, false) => {
                    if let Some(last) = literals.last_mut() {
                        last.push(other);
                    }
                }
            }
        }
        Self { literals }
    }

    /// How many bytes of the URI are literal text of the template; `None` if it does not match.
    pub(crate) fn matches(&self, uri: &str) -> Option<usize> {
        let (first, rest) = self.literals.split_first()?;
        let mut left = uri.strip_prefix(first.as_str())?;
        let Some((last, middle)) = rest.split_last() else {
            return left.is_empty().then_some(first.len());
        };
        left = left.strip_suffix(last.as_str())?;
        for literal in middle {
            let found = left.find(literal.as_str())?;
            left = left.get(found + literal.len()..)?;
        }
        Some(self.literals.iter().map(String::len).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_find_their_templates() {
        let matches = |template: &str, uri: &str| Template::new(template).matches(uri);
        assert_eq!(matches("file:///{path}", "file:///a/b"), Some(8));
        assert_eq!(matches("test://{id}/data", "test://7/data"), Some(12));
        assert_eq!(matches("test://{id}/data", "test://7/other"), None);
        assert_eq!(matches("x://{a}/{b}/end", "x://1/2/end"), Some(9));
        assert_eq!(matches("x://plain", "x://plain"), Some(9));
        assert_eq!(matches("x://plain", "x://plainer"), None);
        assert_eq!(matches("aa{x}aa", "aaa"), None);
    }
}
