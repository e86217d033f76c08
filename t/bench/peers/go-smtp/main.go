// go-smtp: accepts everything and discards it, to be compared with.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"

	"github.com/emersion/go-smtp"
)

type backend struct{}

func (backend) Login(*smtp.ConnectionState, string, string) (smtp.Session, error) {
	return nil, smtp.ErrAuthUnsupported
}

func (backend) AnonymousLogin(*smtp.ConnectionState) (smtp.Session, error) { return session{}, nil }

type session struct{}

func (session) Mail(string, smtp.MailOptions) error { return nil }
func (session) Rcpt(string) error                   { return nil }
func (session) Reset()                              {}
func (session) Logout() error                       { return nil }

func (session) Data(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "HOST:PORT")
	tlsPort := flag.String("tls-port", "", "HOST:PORT, where TLS comes before the greeting")
	certificate := flag.String("tls-cert", "", "PEM file")
	key := flag.String("tls-key", "", "PEM file")
	flag.Parse()

	server := smtp.NewServer(backend{})
	server.Domain = "localhost"
	server.AuthDisabled = true
	server.ErrorLog = log.New(io.Discard, "", 0)
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			log.Fatal(err)
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
	}

	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	if *tlsPort != "" {
		encrypted, err := tls.Listen("tcp", *tlsPort, server.TLSConfig)
		if err != nil {
			log.Fatal(err)
		}
		go func() { log.Fatal(server.Serve(encrypted)) }()
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(server.Serve(listener))
}
