//! The protocol versions, and what differs between them.

/// A version of the protocol, by the date of its publication. Later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

impl Version {
    /// Newest first: the order in which they are offered.
    pub(crate) const ALL: [Version; 5] =
        [Self::V2026_07_28, Self::V2025_11_25, Self::V2025_06_18, Self::V2025_03_26, Self::V2024_11_05];

    /// What a client speaks that does not say: the header that names the version came later.
    pub(crate) const UNSAID: Version = Self::V2025_03_26;

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }

    /// Whether each request says all about itself, and there is neither `initialize` nor a session.
    pub(crate) fn is_stateless(self) -> bool {
        self >= Self::V2026_07_28
    }

    pub(crate) fn has_batches(self) -> bool {
        self == Self::V2025_03_26
    }

    /// The answer to `initialize`: the version asked for if it begins so, else the newest that does.
    pub(crate) fn negotiate(asked: &str) -> Self {
        Self::parse(asked).filter(|version| !version.is_stateless()).unwrap_or(Self::V2025_11_25)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_version_is_agreed_on_and_any_other_gives_the_newest_that_has_initialize() {
        for version in Version::ALL.into_iter().filter(|v| !v.is_stateless()) {
            assert_eq!(Version::negotiate(version.name()), version);
        }
        assert_eq!(Version::negotiate("2026-07-28"), Version::V2025_11_25);
        assert_eq!(Version::negotiate("1999-01-01"), Version::V2025_11_25);
    }
}
