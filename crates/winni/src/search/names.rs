//! When a filter's value means a model, a project folder or a tool.

/// Whether `wanted` means this model: any part of its name, in any case (`sonnet`, `claude-sonnet-4-5`).
pub(crate) fn model_matches(name: &str, wanted: &str) -> bool {
    name.to_lowercase().contains(&wanted.to_lowercase())
}

/// Whether `wanted` means this project folder: the folder itself or one that holds it (`/home/ada/app`), or, where it does
/// not begin at the root, any part of its path (`app`, `ada/app`).
pub(crate) fn project_matches(folder: &str, wanted: &str) -> bool {
    let wanted = wanted.trim_end_matches(['/', '\\']);
    let folder = format!("/{}/", folder.trim_matches(['/', '\\']).replace('\\', "/"));
    let from_root = wanted.starts_with(['/', '\\']);
    let wanted = format!("/{}/", wanted.trim_start_matches(['/', '\\']).replace('\\', "/"));
    match (wanted.as_str(), from_root) {
        ("//", _) => true,
        (wanted, true) => folder.starts_with(wanted),
        (wanted, false) => folder.contains(wanted),
    }
}

/// A mark of a document: it calls this tool, or carries its result. In hexadecimal, so that it is one token whatever
/// characters the name is made of.
pub(crate) fn tool_mark(name: &str) -> String {
    let hex: String = name.to_lowercase().bytes().map(|b| format!("{b:02x}")).collect();
    format!("t{hex}")
}

/// A mark of a document: it tells of an error.
pub(crate) const ERROR_MARK: &str = "error";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_meant_by_its_path_or_a_part_of_it() {
        let folder = "/home/ada/my app";
        for wanted in ["/home/ada/my app", "/home/ada/my app/", "/home/ada", "/", "my app", "ada/my app", "home"] {
            assert!(project_matches(folder, wanted), "{wanted}");
        }
        for wanted in ["/ada", "app", "/home/ad", "/home/ada/my app/src", "my"] {
            assert!(!project_matches(folder, wanted), "{wanted}");
        }
        assert!(project_matches(r"C:\work\app", "app") && project_matches(r"C:\work\app", r"C:\work"));
    }

    #[test]
    fn a_model_is_meant_by_any_part_of_its_name() {
        assert!(model_matches("claude-Sonnet-4-5", "sonnet"));
        assert!(!model_matches("claude-sonnet-4-5", "opus"));
    }
}
