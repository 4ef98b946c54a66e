use std::os::unix::fs::symlink;

use super::*;

#[test]
fn nothing_leads_out_of_the_allowed_folders() {
    let all = tempfile::tempdir().unwrap();
    let folder = all.path().join("allowed");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("sub/a.txt"), "inside").unwrap();
    std::fs::write(all.path().join("secret"), "secret").unwrap();
    symlink(all.path().join("secret"), folder.join("link")).unwrap();
    symlink(all.path(), folder.join("way")).unwrap();
    let allowed = Allowed::Folders(vec![folder.clone()]);
    let read = |name: &str| read_all(&[name.to_owned()], &allowed);
    assert!(read("sub/a.txt").is_ok());
    assert!(read(folder.join("sub/a.txt").to_str().unwrap()).is_ok());
    for name in ["../secret", "sub/../../secret", "link", "way/secret", "/etc/passwd", "", ".", "sub", "nothing"] {
        assert!(read(name).unwrap_err().contains("must "), "{name}");
    }
    assert!(read_all(&["a".to_owned()], &Allowed::Folders(Vec::new())).is_err());
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
