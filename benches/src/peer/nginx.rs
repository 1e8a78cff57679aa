//! nginx, from Debian's package.

use std::{error::Error, fs, path::Path};

use super::{Peer, free_port, version};

impl Peer {
    /// One worker, least connections, every connection to the instances kept; bodies go through memory rather than through
    /// files.
    pub fn nginx(folder: &Path, instances: &[u16]) -> Result<Self, Box<dyn Error>> {
        let port = free_port()?;
        let servers: String = instances.iter().map(|port| format!("    server 127.0.0.1:{port};\n")).collect();
        let place = folder.display();
        let configuration = format!(
            "daemon off;\nworker_processes 1;\npid {place}/nginx.pid;\nerror_log {place}/nginx.log error;\n\
             events {{ worker_connections 16384; }}\nhttp {{\n  access_log off;\n  client_max_body_size 2m;\n  \
             keepalive_requests 1000000000;\n  \
             client_body_temp_path {place}/body;\n  proxy_temp_path {place}/proxy;\n  fastcgi_temp_path {place}/fastcgi;\n  \
             uwsgi_temp_path {place}/uwsgi;\n  scgi_temp_path {place}/scgi;\n  upstream app {{\n    least_conn;\n{servers}    \
             keepalive 5000;\n    keepalive_requests 1000000000;\n  }}\n  server {{\n    listen 127.0.0.1:{port} backlog=4096;\n    \
             location / {{\n      proxy_pass http://app;\n      proxy_http_version 1.1;\n      \
             proxy_request_buffering off;\n      proxy_max_temp_file_size 0;\n      \
             proxy_set_header Connection \"\";\n      proxy_set_header Host $http_host;\n      \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, &configuration)?;
        let file = file.display().to_string();
        Self::start("nginx", version("nginx", "-v"), configuration, port, Path::new("nginx"), &["-c", &file])
    }
}
