//! Secrets in inventories, and ansible-vault blocks.

use super::inventory::{brief, parsed, warnings, with};
use pgorch::inventory::SecretRef;
use pgorch::inventory::vault::{self, VaultError};
use pgorch::model::Secret;

#[test]
fn secrets_are_references_until_they_are_resolved() {
    let text = with("ssh: {password: {secret: {env: P}}, become_password: {secret: {file: /f}}}
postgres: {roles: [{name: r, password: {secret: {command: [pass, show, x]}}}, {name: s, password: hunter22}]}
vars:
  token: !vault |
    $ANSIBLE_VAULT;1.1;AES256
    6162
  deep: {list: [{secret: {env: X}}, plain]}
");
    insta::assert_snapshot!(warnings(&text), @r#"
    warning: "password" is written in clear
     --> inventory.yml:4:99
      |
    4 | postgres: {roles: [{name: r, password: {secret: {command: [pass, show, x]}}}, {name: s, password: ********}]}
      |                                                                                                   ^^^^^^^^
      |
      = hint: use !vault or {secret: {env: NAME}}, {secret: {file: PATH}}
    "#);
    let inventory = parsed(&text);
    assert!(!format!("{inventory:?}").contains("hunter22"));
    insta::assert_snapshot!(format!("{:?}", inventory.secret_refs()), @r#"[Vault("$ANSIBLE_VAULT;1.1;AES256\n6162\n"), Env("X"), Env("P"), File("/f"), Command(["pass", "show", "x"]), Plain(********)]"#);
    insta::assert_snapshot!(serde_json::to_string(&inventory.vars).unwrap(), @r#"{"token":{"__secret":0},"deep":{"list":[{"__secret":1},"plain"]}}"#);
    assert_eq!(inventory.login_secrets(), 2..4);
    let login: Vec<Option<Secret>> =
        (0..6).map(|i| (2..4).contains(&i).then(|| Secret::new("login"))).collect();
    let some = inventory.clone().with_secrets(&login);
    assert_eq!(some.ssh.password, Some(SecretRef::Plain(Secret::new("login"))));
    assert_eq!((&some.vars, &some.postgres), (&inventory.vars, &inventory.postgres));
    let values: Vec<Option<Secret>> =
        (0..6).map(|i| Some(Secret::new(format!("value{i}")))).collect();
    let resolved = inventory.with_secrets(&values);
    insta::assert_snapshot!(serde_json::to_string(&resolved.vars).unwrap(), @r#"{"token":"value0","deep":{"list":["value1","plain"]}}"#);
    assert_eq!(resolved.ssh.password, Some(SecretRef::Plain(Secret::new("value2"))));
    assert_eq!(resolved.ssh.become_password, Some(SecretRef::Plain(Secret::new("value3"))));
    assert_eq!(resolved.postgres.roles[0].password, Some(SecretRef::Plain(Secret::new("value4"))));
    insta::assert_snapshot!(brief(&with("ssh: {password: {secret: {env: A, file: B}}, become_password: [x]}
postgres: {roles: [{name: r, password: {secret: {enw: X}}}]}
vars: {a: !vault 'x', b: {__secret: 0}, c: {secret: {}}}
")), @r#"
i:3:26: error: a secret needs exactly one source (env: NAME, file: PATH or command: [PROGRAM, ARGUMENT])
i:3:63: error: "become_password" must be text, !vault or {secret: ...}, not a list
i:4:49: error: a secret needs exactly one source (env: NAME, file: PATH or command: [PROGRAM, ARGUMENT])
i:4:50: error: unknown key "enw" in secret (did you mean "env"?)
i:5:18: error: this is not an ansible-vault block (make one with: ansible-vault encrypt_string)
i:5:27: error: the key "__secret" is taken by pgorch
i:5:53: error: a secret needs exactly one source (env: NAME, file: PATH or command: [PROGRAM, ARGUMENT])
"#);
}

#[test]
fn vault_blocks_made_by_ansible() {
    let password = Secret::new("correct horse");
    let plain = include_str!("fixtures/vault-1.1.txt");
    assert_eq!(vault::decrypt(plain, &password).unwrap().expose(), "hunter22 ünïcode");
    let labelled = include_str!("fixtures/vault-1.2.txt");
    assert_eq!(vault::decrypt(labelled, &password).unwrap().expose(), "line one\nline two\n");
    assert_eq!((vault::label(plain), vault::label(labelled)), (None, Some("prod")));
    let indented = plain.replace('\n', "\n      ");
    assert_eq!(vault::decrypt(&indented, &password).unwrap().expose(), "hunter22 ünïcode");
    let fails =
        |text: &str, password: &str| vault::decrypt(text, &Secret::new(password)).unwrap_err();
    assert_eq!(fails(plain, "wrong"), VaultError::WrongPassword);
    assert_eq!(fails("hello", "x"), VaultError::NotVault);
    assert_eq!(fails("$ANSIBLE_VAULT;1.0;AES\n61", "x"), VaultError::Unsupported);
    for damaged in [
        "$ANSIBLE_VAULT;1.1;AES256",
        "$ANSIBLE_VAULT;1.1;AES256\n616",
        "$ANSIBLE_VAULT;1.1;AES256\nzz",
        "$ANSIBLE_VAULT;1.1;AES256\nff",
    ] {
        assert_eq!(fails(damaged, "x"), VaultError::Damaged, "{damaged}");
    }
    let flipped = plain.trim_end().to_owned().replace("\n3", "\n4");
    assert!(vault::decrypt(&flipped, &password).is_err());
}
