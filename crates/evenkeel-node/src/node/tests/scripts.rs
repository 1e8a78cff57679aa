//! Which folder of scripts the edge is told for each instance.

use super::{STACK, World};

#[test]
fn a_relative_root_comes_with_the_folder_of_each_instance() {
    let stack = format!("{STACK}dir = \"one\"\nfastcgi = {{ root = \"public\" }}\ncheck = {{ tcp = true }}\n");
    let world = World::new(&stack);
    for folder in ["one", "two"] {
        std::fs::create_dir(world.temp.path().join(folder)).unwrap();
    }
    let node = world.start();
    let all_in = |folder: &str| {
        let folder = world.temp.path().canonicalize().unwrap().join(folder).display().to_string();
        world.wait_snapshot("the folder of each instance", |snapshot| {
            let instances = snapshot.services.iter().flat_map(|service| &service.instances);
            let folders: Vec<_> = instances.map(|instance| instance.folder.clone()).collect();
            folders.len() == 2 && folders.iter().all(|one| one.as_deref() == Some(&folder))
        });
    };
    world.wait_healthy(2);
    all_in("one");
    let text = stack.replace("dir = \"one\"", "dir = \"two\"").replace("LISTEN", &world.free);
    let dir = world.temp.path();
    let (code, body) = world.post("/v1/apply", &serde_json::json!({ "text": text, "file": "keel.toml", "dir": dir }));
    assert_eq!(code, 200, "{body}");
    all_in("two");
    world.end(node);
}
