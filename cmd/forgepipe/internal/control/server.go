package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Name is the socket's file in the state directory.
const Name = "control.sock"

// What one client may take of the run: whoever does more is cut off or waits.
const (
	maxConnections = 16
	maxHeader      = 8 << 10
	readTimeout    = 2 * time.Second  // for a whole request
	writeTimeout   = 10 * time.Second // for an answer
	clearPause     = time.Second      // between two clean-ups, as each stops the work for a moment
)

// closeWait is how long Close waits for answers that are being made: a run that
// has ended must not be held up by who watched it.
const closeWait = 250 * time.Millisecond

// Run is what a server tells of. Its methods are called from several goroutines.
type Run interface {
	Memory() Report
	// Clear cleans up, until ctx ends: the client has gone, or the run ends.
	Clear(ctx context.Context) Cleaned
	// Pause has the run begin nothing new, and Resume has it go on. Both tell how
	// it is then: a run that ends is not paused.
	Pause() State
	Resume() State
}

// Server answers on a socket in a state directory, until Close.
type Server struct {
	run      Run
	dir      *os.File
	bound    unix.Stat_t // the socket's file
	listener *listener
	http     *http.Server
	cancel   context.CancelFunc // of what is being answered

	clearing chan struct{} // holds a token while nobody cleans up
	cleared  time.Time     // belongs to who has the token
	closing  sync.Once
}

// Listen opens the socket in a state directory and answers on it. The caller
// must have the directory's lock: a socket that is there is that of a run that
// was killed, and is replaced. A file of that name that is no socket is left
// alone, and is an error. The log gets what clients do wrong, at level debug; nil
// is none.
func Listen(dir string, run Run, log *slog.Logger) (*Server, error) {
	s := &Server{run: run, clearing: make(chan struct{}, 1)}
	s.clearing <- struct{}{}
	var err error
	if s.dir, err = os.Open(dir); err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	if err := s.bind(); err != nil {
		s.dir.Close()
		return nil, fmt.Errorf("opening the control socket %s in %s: %w", Name, dir, err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /memory", s.memory)
	mux.HandleFunc("POST /clear", s.clear)
	mux.HandleFunc("POST /pause", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.run.Pause()) })
	mux.HandleFunc("POST /resume", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.run.Resume()) })
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = &http.Server{
		Handler:        mux,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}
	// One request each: a client that only stays connected takes a place of few.
	s.http.SetKeepAlivesEnabled(false)
	go func() { _ = s.http.Serve(s.listener) }() // until Close
	return s, nil
}

// address is a name of the socket that fits into the 108 bytes that sockets'
// names may have (unix(7)), however long the directory's is.
func address(dir *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + Name
}

func (s *Server) bind() error {
	unlock := s.lock()
	defer unlock()
	old, err := s.stat()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case old.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return errors.New("a file that is no socket has its name: move it away")
	default:
		if err := unix.Unlinkat(int(s.dir.Fd()), Name, 0); err != nil {
			return fmt.Errorf("removing that of an earlier run: %w", err)
		}
	}
	// Linux gives the file the mode of the socket, less the umask, so that there is
	// no moment at which others could connect.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); cerr != nil {
			return cerr
		}
		return err
	}}
	l, err := private.Listen(context.Background(), "unix", address(s.dir))
	if err != nil {
		return short(err)
	}
	u := l.(*net.UnixListener)
	u.SetUnlinkOnClose(false) // remove does, and looks whose it is first
	if s.bound, err = s.stat(); err != nil {
		_ = u.Close()
		return err
	}
	s.listener = &listener{UnixListener: u, places: make(chan struct{}, maxConnections), closed: make(chan struct{})}
	return nil
}

// short is a network error without its operation and address, which is not one
// that anybody would know.
func short(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

func (s *Server) stat() (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(s.dir.Fd()), Name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

// lock keeps another forgepipe from replacing the socket between a look at it
// and what is done then: the run that ends has given the store back already when
// it closes its socket. Where the lock cannot be had, that is a race of
// microseconds about a convenience, and nothing to wait long for.
func (s *Server) lock() (unlock func()) {
	fd := int(s.dir.Fd())
	for range 10 {
		if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil {
			return func() { _ = unix.Flock(fd, unix.LOCK_UN) }
		}
		time.Sleep(time.Millisecond)
	}
	return func() {}
}

// Close removes the socket and ends the server. Answers that are being made get
// a moment; who is not done then is cut off. It may be called more than once.
func (s *Server) Close() {
	s.closing.Do(func() {
		// Before the listener is closed: as long as it is there, no other file has
		// its inode.
		s.remove()
		s.cancel()
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		_ = s.http.Shutdown(ctx)
		_ = s.http.Close()
		_ = s.listener.Close() // Serve may not have begun
		s.dir.Close()
	})
}

// remove takes the socket away, unless it is another run's by now.
func (s *Server) remove() {
	unlock := s.lock()
	defer unlock()
	if st, err := s.stat(); err == nil && st.Ino == s.bound.Ino && st.Dev == s.bound.Dev {
		_ = unix.Unlinkat(int(s.dir.Fd()), Name, 0) // it may be gone with its folder
	}
}

func (s *Server) memory(w http.ResponseWriter, _ *http.Request) {
	answer(w, s.run.Memory())
}

func (s *Server) clear(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	select {
	case <-s.clearing:
	case <-r.Context().Done():
		return
	}
	defer func() { s.clearing <- struct{}{} }()
	pause := time.NewTimer(time.Until(s.cleared.Add(clearPause)))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-r.Context().Done():
		return
	}
	done := s.run.Clear(r.Context())
	s.cleared = time.Now()
	_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
	answer(w, done)
}

func answer(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "BUG: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // a client that has gone wants no answer
}

// listener accepts few connections at a time, of this user only. Others wait in
// the kernel's queue.
type listener struct {
	*net.UnixListener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		select {
		case l.places <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
		c, err := l.AcceptUnix()
		if err != nil {
			<-l.places
			return nil, err
		}
		if !ours(c) {
			_ = c.Close()
			<-l.places
			continue
		}
		return &conn{UnixConn: c, leave: sync.OnceFunc(func() { <-l.places })}, nil
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.UnixListener.Close()
}

// ours tells whether the other side is this user or root. The file's mode says
// so too, but not on every file system.
func ours(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil || err != nil {
		return false
	}
	return cred.Uid == uint32(os.Geteuid()) || cred.Uid == 0
}

// conn gives its place back when it is closed.
type conn struct {
	*net.UnixConn
	leave func()
}

func (c *conn) Close() error {
	defer c.leave()
	return c.UnixConn.Close()
}
