// table -- every option of the daemon; doc/DAEMON.md says more of each.
#pragma once

#include "option.hpp"

// In the order of --help. What is at_once here is taken up by SIGHUP.
inline const std::vector<Option>& option_table() {
    constexpr bool at_once = true;
    static const std::vector<Option> table{
        // ---- who it is, where it listens ----
        {"name", Kind::text, "NAME", "", "of this server, in its log"},
        {"hostname", Kind::text, "NAME, of ASCII (xn--...)", "",
         "ours in greetings, Received, EHLO and notices; empty: the system's", false, a_hostname},
        {"greeting", Kind::text, "TEXT", "ESMTP", "behind the host name in 220"},
        {"listen", Kind::list, "[tls:]HOST:PORT, [tls:]unix:/PATH, [tls:]fd:NUMBER", "127.0.0.1:2525",
         "where mail comes in; of systemd's sockets without it", at_once, an_address},
        {"submission", Kind::list, "as of listen", "", "where users submit mail: they must log in (RFC 6409)", at_once,
         an_address},
        {"lmtp", Kind::list, "as of listen, not port 25", "", "where LMTP is spoken", at_once, an_address},
        {"user", Kind::text, "USER[:GROUP]", "", "whom it becomes when it listens"},
        {"daemon", Kind::flag, "true, false", "false", "goes into the background"},
        {"pid_file", Kind::path, "FILE", "", "holds its process id"},
        {"log", Kind::text, "stderr, syslog, none, FILE", "stderr",
         "one line for each session, mail and event of the queue"},
        {"transcript", Kind::text, "stderr, FILE", "",
         "all that is said to clients and next hops, without the secrets"},
        {"drain", Kind::period, "SECONDS", "30", "how long what is under way may take to end after SIGTERM"},

        // ---- TLS and users ----
        {"tls_cert", Kind::list, "FILE", "", "certificates with their chains, PEM: offers STARTTLS", at_once},
        {"tls_key", Kind::list, "FILE", "", "their keys, PEM; one for each of tls_cert", at_once},
        {"require_tls", Kind::flag, "true, false", "false", "takes no mail without TLS"},
        {"auth_file", Kind::path, "FILE", "", "users with passwords or keys: offers AUTH", at_once},
        {"auth_clear", Kind::text, "never, loopback, everywhere", "never", "where AUTH is offered without TLS"},

        // ---- what it takes ----
        {"domains", Kind::list, "DOMAIN, .DOMAIN (what is below it)", "", "mail for them is taken from anybody",
         at_once, a_domain},
        {"trusted", Kind::list, "ADDRESS, NETWORK/BITS", "", "who may send mail to anybody", at_once, networks},
        {"dnsbl", Kind::list, "ZONE, ZONE=CODES", "", "refuses clients that one of these block lists names", at_once},
        {"dnswl", Kind::list, "ZONE, ZONE=CODES", "", "but none of those that one of these names", at_once},
        {"sender_verify", Kind::flag, "true, false", "false", "refuses senders whose domain has no mail server",
         at_once},
        {"origin", Kind::flag, "true, false", "false", "takes all Received fields away and adds none", at_once},
        {"complete", Kind::flag, "true, false", "false", "gives mail without Date or Message-ID these fields"},
        {"max_hops", Kind::number, "1 to 1000", "100", "Received fields; from there on mail goes round in circles",
         at_once, within<1, 1000>},
        {"max_message_size", Kind::number, "OCTETS; 0: any", "67108864", "of one message"},
        {"max_recipients", Kind::number, "0 (any), 1, ...", "1000", "of one message"},
        {"max_connections", Kind::number, "0 (any), 1, ...", "2000", "at once"},
        {"max_connections_per_ip", Kind::number, "0 (any), 1, ...", "500", "of one address"},
        {"client_time_out", Kind::period, "SECONDS", "300", "for a client's next command", false, some_time},

        // ---- where mail goes: the first that knows ----
        {"handlers", Kind::entries, "PATTERN DESTINATION", "", "of recipients that an RE2 pattern matches", at_once},
        {"routes", Kind::list, "DOMAIN=DESTINATION, .DOMAIN=DESTINATION", "", "of recipients in a domain", at_once},
        {"maildir", Kind::path, "a path with {domain} and {local}", "", "of recipients in our own domains", at_once},
        {"mailboxes", Kind::text, "existing, any", "existing",
         "for which local parts there is one: whose maildir is there, or all", at_once},
        {"relay", Kind::text, "HOST[:PORT], lmtp:HOST:PORT, lmtp:unix:/PATH", "", "all others; empty: by MX", at_once,
         a_next_hop},
        {"relay_tls", Kind::text, "none, may, must, verify, dane, implicit[,LEVEL]", "", "on the way to relay", at_once,
         a_level},
        {"relay_ca", Kind::path, "FILE", "", "PEM: who signs its certificate", at_once},
        {"relay_user", Kind::text, "USER", "", "logs in there", at_once},
        {"relay_pass", Kind::secret, "PASSWORD", "", "with this password", at_once},
        {"relay_pass_file", Kind::path, "FILE", "", "whose first line is the password", at_once},
        {"relay_auth", Kind::list, "PLAIN, SCRAM-SHA-256, ...", "", "by these mechanisms only, in the clear too",
         at_once},
        {"mx_tls", Kind::text, "none, may, must, verify, dane", "may", "on the way to hosts by MX", at_once, a_level},
        {"mx_port", Kind::number, "1 to 65535", "25", "of hosts by MX", at_once, within<1, 65535>},
        {"dns", Kind::list, "none, ADDRESS[:PORT]", "", "name servers; empty: the system's"},
        {"trust_anchor", Kind::path, "FILE", "", "for DNSSEC, as /usr/share/dns/root.key"},

        // ---- the queue ----
        {"queue", Kind::text, "FOLDER, postgresql://...", "/var/spool/smtpd", "where mail waits"},
        {"lease", Kind::period, "SECONDS", "120",
         "when mail of a machine that is silent goes to others that share the database", false, some_time},
        {"maxrelay", Kind::number, "1 to 10000", "100", "deliveries at once", false, within<1, 10000>},
        {"per_destination", Kind::number, "1 to 10000", "20", "of them to one destination", false, within<1, 10000>},
        {"avoid", Kind::period, "SECONDS", "30", "a host that could not be connected to is left alone for so long"},
        {"time_out", Kind::period, "SECONDS", "1800", "for one delivery", at_once, some_time},
        {"schedule", Kind::text, "standard, simplesmtp", "standard", "when mail is tried again", false, a_schedule},
        {"retry", Kind::period, "SECONDS", "", "the first time; else as the schedule says", false, some_time},
        {"life", Kind::period, "SECONDS", "", "until it is bounced; else as the schedule says", false, some_time},
        {"warn", Kind::period, "SECONDS; 0: never", "", "until its sender is told of a delay"},
        {"paused", Kind::flag, "true, false", "false", "pauses the queue at the start, as smtpq pause does", at_once},
    };
    return table;
}

// Null: there is none of that name.
inline const Option* option_named(std::string_view name) {
    for (const auto& option : option_table())
        if (option.name == name) return &option;
    return nullptr;
}
