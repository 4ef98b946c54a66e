use std::os::unix::fs::symlink;

use super::*;

#[test]
fn files_come_from_the_allowed_folders_only_unless_the_user_names_them() {
    let all = tempfile::tempdir().unwrap();
    let folder = all.path().join("allowed");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.txt"), "inside").unwrap();
    let secret = all.path().join("secret").to_str().unwrap().to_owned();
    std::fs::write(&secret, "secret").unwrap();
    symlink(&secret, folder.join("link")).unwrap();
    let allowed = Allowed::Folders(vec![folder]);
    let read = |name: &str| read_all(&[name.to_owned()], &allowed);
    assert!(read("a.txt").is_ok());
    for (name, word) in [("../secret", "fiedler_folders"), (&secret, "fiedler_folders"), ("link", "symbolic link")] {
        let problem = read(name).unwrap_err();
        assert!(problem.starts_with(&format!("{name}: must ")) && problem.contains(word), "{problem}");
    }
    assert!(read_all(&[secret], &Allowed::Anywhere).is_ok());
}

#[test]
fn sizes_are_bounded_one_by_one_and_together() {
    let all = tempfile::tempdir().unwrap();
    let large = usize::try_from(MAX_TEXT_BYTES).unwrap();
    let file = |name: &str, bytes: usize| {
        let path = all.path().join(name);
        std::fs::write(&path, vec![b'a'; bytes]).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (one, over) = (file("one", large), file("over", large + 1));
    assert!(read_all(&[one.clone(), one.clone()], &Allowed::Anywhere).is_ok());
    assert!(read_all(&[over], &Allowed::Anywhere).unwrap_err().contains("at most"));
    assert!(read_all(&[one.clone(), one.clone(), one], &Allowed::Anywhere).unwrap_err().contains("together"));
}

#[test]
fn encodings_are_told_apart_and_binary_files_refused() {
    assert_eq!(text("Fugü".as_bytes()).unwrap(), "Fugü");
    assert_eq!(text(b"\xef\xbb\xbfa").unwrap(), "a");
    assert_eq!(text(b"\xff\xfea\x00\xfc\x00").unwrap(), "aü");
    assert_eq!(text(b"\xfe\xff\x00a").unwrap(), "a");
    assert_eq!(text(b"Fug\xfc").unwrap(), "Fugü");
    for binary in [&b"\x00\x01"[..], b"\x7fELF\x02\xff", b"\xff\xfea", b"a\x00b"] {
        assert!(text(binary).is_err(), "{binary:?}");
    }
    let image = content(b"\x89PNG\r\n\x1a\nxyz".to_vec()).unwrap();
    assert!(matches!(image, Content::Image(Image { media_type: "image/png", .. })));
}
