//! Tests the instructions for a machine without a browser.

use std::path::Path;

use tests::observed::ObservedProgram;

#[test]
fn reports_what_to_install_if_chromium_is_missing() {
    let program = env!("CARGO_BIN_EXE_plane_user");
    let empty_path = [("PATH", Path::new("/none"))];
    let mut user = ObservedProgram::start(program, &["pass", "browser"], &empty_path);
    assert!(!user.wait().success());
    let errors = user.errors();
    assert!(
        errors.contains("apt-get install --no-install-recommends chromium chromium-driver"),
        "{errors}"
    );
}
