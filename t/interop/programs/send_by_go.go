// net/smtp -- sends standard input by Go's net/smtp as the environment says; see many_clients.py.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/smtp"
	"os"
	"strings"
)

func must(problem error) {
	if problem != nil {
		log.Fatal(problem)
	}
}

func main() {
	say := os.Getenv
	trust := x509.NewCertPool()
	if say("CA") != "" {
		text, problem := os.ReadFile(say("CA"))
		must(problem)
		trust.AppendCertsFromPEM(text)
	}
	secure := &tls.Config{ServerName: "localhost", RootCAs: trust}
	where := "localhost:" + say("PORT")
	var client *smtp.Client
	var problem error
	if say("WAY") == "TLS" {
		connection, failed := tls.Dial("tcp", where, secure)
		must(failed)
		client, problem = smtp.NewClient(connection, "localhost")
	} else {
		client, problem = smtp.Dial(where)
	}
	must(problem)
	must(client.Hello("client.example.org"))
	if say("WAY") == "STARTTLS" {
		must(client.StartTLS(secure))
	}
	switch say("MECHANISM") {
	case "PLAIN":
		must(client.Auth(smtp.PlainAuth("", say("USER_NAME"), say("PASSWORD"), "localhost")))
	case "CRAM-MD5":
		must(client.Auth(smtp.CRAMMD5Auth(say("USER_NAME"), say("PASSWORD"))))
	}
	must(client.Mail(say("FROM")))
	for _, to := range strings.Fields(say("TO")) {
		must(client.Rcpt(to))
	}
	text, problem := client.Data()
	must(problem)
	_, problem = io.Copy(text, os.Stdin)
	must(problem)
	must(text.Close())
	must(client.Quit())
}
