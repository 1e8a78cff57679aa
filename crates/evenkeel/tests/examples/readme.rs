//! The commands of a README: what stands in its blocks for a shell, as a reader would paste it.

/// The text of every ```` ```sh ```` block, in order.
pub(crate) fn blocks(readme: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in readme.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn blocks_for_a_shell_and_no_others() {
    let readme = "a\n```sh\none\ntwo\n```\nb\n```toml\nx\n```\n```sh\nthree\n```\n";
    assert_eq!(blocks(readme), ["one\ntwo\n", "three\n"]);
}
