// go-smtp -- keeps what it takes in the folder DIR, as NAME.eml and NAME.json; see many_hops.py.
package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/emersion/go-smtp"
)

var say, count = os.Getenv, int64(0)

type backend struct{}

func (backend) Login(_ *smtp.ConnectionState, user, password string) (smtp.Session, error) {
	if user != say("USER_NAME") || password != say("PASSWORD") {
		return nil, errors.New("no such user")
	}
	return &session{}, nil
}

func (backend) AnonymousLogin(*smtp.ConnectionState) (smtp.Session, error) {
	if say("CERTIFICATE") != "" {
		return nil, smtp.ErrAuthRequired
	}
	return &session{}, nil
}

type session struct {
	From string   `json:"from"`
	To   []string `json:"to"`
}

func (s *session) Mail(from string, _ smtp.MailOptions) error {
	s.From = from
	return nil
}

func (s *session) Rcpt(to string) error {
	if strings.HasPrefix(to, "refused@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "Nobody of that name lives behind the hills"}
	}
	s.To = append(s.To, to)
	return nil
}

func (s *session) Data(text io.Reader) error {
	octets, problem := io.ReadAll(text)
	if problem != nil {
		return problem
	}
	octets = bytes.ReplaceAll(octets, []byte("\n"), []byte("\r\n")) // it gives out text with line ends of Unix
	name := fmt.Sprintf("%s/%d", say("DIR"), atomic.AddInt64(&count, 1))
	fields, _ := json.Marshal(s)
	for _, problem := range []error{os.WriteFile(name+".eml", octets, 0o644), os.WriteFile(name+".part", fields, 0o644), os.Rename(name+".part", name+".json")} {
		if problem != nil {
			return problem
		}
	}
	return nil
}

func (s *session) Reset()        { *s = session{} }
func (s *session) Logout() error { return nil }

func must(problem error) {
	if problem != nil {
		log.Fatal(problem)
	}
}

func listen(config *tls.Config, implicit bool) {
	server := smtp.NewServer(backend{})
	server.Domain, server.EnableSMTPUTF8, server.MaxMessageBytes = "go-smtp.example.org", true, 100<<20
	server.TLSConfig, server.ErrorLog = config, log.New(io.Discard, "", 0)
	listening, problem := net.Listen("tcp", "127.0.0.1:0")
	must(problem)
	words := ""
	if implicit {
		words = " (TLS)"
		listening = tls.NewListener(listening, config)
	}
	fmt.Printf("listening on %s%s\n", listening.Addr(), words)
	go server.Serve(listening)
}

func main() {
	over := make(chan os.Signal, 1)
	signal.Notify(over, syscall.SIGTERM)
	var config *tls.Config
	if say("CERTIFICATE") != "" {
		pair, problem := tls.LoadX509KeyPair(say("CERTIFICATE"), say("KEY"))
		must(problem)
		config = &tls.Config{Certificates: []tls.Certificate{pair}}
		listen(config, true)
	}
	listen(config, false)
	<-over
}
