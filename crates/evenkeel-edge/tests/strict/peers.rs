//! nginx, Apache and HAProxy as instances: each passes on what it understood, and keeps a log with a line for every
//! request that it believes to have got.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::common::PATIENCE;

/// A server that runs as long as this lives.
pub struct Peer {
    pub name: &'static str,
    pub address: SocketAddr,
    child: Child,
    log: Log,
    folder: tempfile::TempDir,
}

enum Log {
    File(PathBuf),
    Datagrams(Arc<Mutex<Vec<String>>>),
}

impl Drop for Peer {
    fn drop(&mut self) {
        // One that is killed leaves its workers behind.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// The lines of its log so far: method and target of each request.
    pub fn logged(&self) -> Vec<String> {
        match &self.log {
            Log::File(path) => {
                std::fs::read(path).map_or_else(|_| Vec::new(), |text| lines(&String::from_utf8_lossy(&text)))
            }
            Log::Datagrams(lines) => lines.lock().unwrap().clone(),
        }
    }

    fn start(
        name: &'static str,
        program: &str,
        package: &str,
        configure: impl FnOnce(&Path, SocketAddr) -> (String, Vec<String>, Log),
    ) -> Self {
        let program = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(program));
        let program = program.iter().find(|path| path.is_file());
        let program = program.unwrap_or_else(|| panic!("{name} is missing: `cargo xtask setup` installs {package}"));
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (text, arguments, log) = configure(folder.path(), address);
        std::fs::write(folder.path().join("conf"), text).unwrap();
        let output = std::fs::File::create(folder.path().join("output")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let mut peer = Self { name, address, child, log, folder };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let output = || std::fs::read_to_string(peer.folder.path().join("output")).unwrap_or_default();
            assert!(peer.child.try_wait().unwrap().is_none(), "{name} ended: {}", output());
            assert!(start.elapsed() < PATIENCE, "{name} does not listen: {}", output());
            std::thread::sleep(Duration::from_millis(10));
        }
        peer
    }

    /// All three, each in front of this recorder.
    pub fn all(recorder: SocketAddr) -> [Self; 3] {
        [Self::nginx(recorder), Self::apache(recorder), Self::haproxy(recorder)]
    }

    fn nginx(recorder: SocketAddr) -> Self {
        Self::start("nginx", "nginx", "nginx-light", |folder, address| {
            let place = folder.display();
            let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
            let text = format!(
                "daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error.log; {user}
                 events {{ worker_connections 200; }}
                 http {{
                   log_format one '$request_method $request_uri'; access_log {place}/log one;
                   client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
                   uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
                   underscores_in_headers on; keepalive_requests 100000; large_client_header_buffers 4 32k;
                   server {{ listen {address}; location / {{
                     proxy_pass http://{recorder}; proxy_http_version 1.1; proxy_set_header Host $http_host;
                   }} }}
                 }}"
            );
            let arguments = ["-c".to_owned(), format!("{place}/conf"), "-e".to_owned(), format!("{place}/error.log")];
            (text, arguments.into(), Log::File(folder.join("log")))
        })
    }

    fn apache(recorder: SocketAddr) -> Self {
        Self::start("Apache", "apache2", "libapache2-mod-php", |folder, address| {
            let place = folder.display();
            let user = if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
            let modules = ["mpm_event", "authz_core", "proxy", "proxy_http"]
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .concat();
            let text = format!(
                "{modules}{user}Listen {address}\nServerName localhost\nPidFile {place}/pid\nDefaultRuntimeDir {place}\n\
                 ErrorLog {place}/error.log\nLogFormat \"%m %U%q\" one\nCustomLog {place}/log one\n\
                 MaxKeepAliveRequests 0\nKeepAliveTimeout 60\nLimitRequestLine 16000\nAllowEncodedSlashes NoDecode\n\
                 ProxyPreserveHost On\nProxyPass / http://{recorder}/ nocanon\n"
            );
            let arguments = ["-X".to_owned(), "-f".to_owned(), format!("{place}/conf")];
            (text, arguments.into(), Log::File(folder.join("log")))
        })
    }

    fn haproxy(recorder: SocketAddr) -> Self {
        // A line is written once, at the end of a request, only where the format has something of the end in it.
        Self::start("HAProxy", "haproxy", "haproxy", |folder, address| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let logs = socket.local_addr().unwrap();
            let lines = Arc::new(Mutex::new(Vec::new()));
            let noted = Arc::clone(&lines);
            std::thread::spawn(move || {
                let mut datagram = vec![0; 65_536];
                while let Ok(length) = socket.recv(&mut datagram) {
                    noted.lock().unwrap().extend(self::lines(&String::from_utf8_lossy(&datagram[..length])));
                }
            });
            let text = format!(
                "global\n maxconn 200\n\
                 defaults\n mode http\n log {logs} len 65535 format raw local0\n option dontlognull\n log-format \"%HM %HU %ST %B\"\n\
                 timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
                 listen edge\n bind {address}\n server recorder {recorder}\n"
            );
            let arguments = ["-db".to_owned(), "-f".to_owned(), folder.join("conf").display().to_string()];
            (text, arguments.into(), Log::Datagrams(lines))
        })
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}
