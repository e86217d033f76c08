# net/smtp -- sends standard input by Ruby's net/smtp as the environment says; see many_clients.py.
require "net/smtp"

say = ENV.to_h
trust = OpenSSL::X509::Store.new
trust.add_file(say["CA"]) unless say["CA"].empty?
context = OpenSSL::SSL::SSLContext.new
context.set_params(cert_store: trust)
client = Net::SMTP.new("localhost", say["PORT"].to_i, tls: false, starttls: false)
client.enable_starttls(context) if say["WAY"] == "STARTTLS"
client.enable_tls(context) if say["WAY"] == "TLS"
login = say["MECHANISM"].empty? ? {} : { user: say["USER_NAME"], secret: say["PASSWORD"], authtype: say["MECHANISM"].downcase.tr("-", "_").to_sym }
client.start(helo: "client.example.org", **login) do |session|
  session.send_message(STDIN.binmode.read, say["FROM"], *say["TO"].split)
end
