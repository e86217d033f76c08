// MailServer -- the real server in the background, for a test: takes mail, shows what came, refuses what it is told to.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../Address.hpp"
#include "../Endpoint.hpp"
#include "../Options.hpp"
#include "../Reply.hpp"
#include "../Server.hpp"
#include "Failure.hpp"

namespace Net::SMTP::Test {

// A mail as it arrived.
struct Mail {
    Sender from;                // with its parameters
    std::vector<Recipient> to;  // those whom `reply` speaks of, with theirs
    std::string text;           // header and body, octet for octet, the dots undone
    std::string helo;
    std::string protocol;  // RFC 3848: "SMTP", "ESMTP", "LMTP", ...
    Endpoint peer;
    Reply reply;           // what its sender was answered; code 0 when the connection was dropped instead
    std::string user{};    // who had authenticated; "" for nobody
    std::string cipher{};  // of the TLS it came by, "TLS_AES_256_GCM_SHA384"; "" in the clear

    // As Message::header: the first field of that name (any case), unfolded.
    std::optional<std::string> header(std::string_view name) const;
};

// Listens from its construction on, with a thread for each connection, takes every mail and keeps it. What a client
// does wrong is answered as a Server of those options does. Any thread may call any member. The destructor gives
// sessions a quarter of a second to end by themselves, cuts those that remain, and waits for its threads, which end
// then; only a verdict that is still thinking is waited for.
//
//     Test::MailServer server;
//     server.reply_to("RCPT TO:<bad@", {550, "5.1.1", "No such user"});
//     my_program::send(server.address(), ...);
//     const auto mails = server.wait_for(1);
//
// With TLS and AUTH by its options: see Certificates and Users.
class MailServer {
public:
    using milliseconds = std::chrono::milliseconds;
    static constexpr std::size_t always = std::size_t(-1);

    // On 127.0.0.1, any free port, as "mail.test", with every extension on offer: what is sent by their means is kept
    // as it came.
    MailServer();
    // With these options ("mail.test" if they name no host), on one address as Server takes it: "[::1]:0",
    // "tls:127.0.0.1:0", "unix:/path". std::invalid_argument and std::system_error as Server's.
    explicit MailServer(const Options& options, const std::string& listen = "127.0.0.1:0");
    ~MailServer();
    MailServer(const MailServer&) = delete;
    MailServer& operator=(const MailServer&) = delete;

    std::string address() const;  // "127.0.0.1:34567"
    std::uint16_t port() const;
    // For listeners of your own; the kit's are called before them.
    Server& server();

    // ---- what came ----

    // The mails that were taken, when there are `n` at least and their senders have been answered; those that clear()
    // forgot do not count. Failure when that takes longer, with what has come instead.
    std::vector<Mail> wait_for(std::size_t n, milliseconds within = std::chrono::seconds(10)) const;
    // The mails taken so far, in the order they came. A mail is among them before its sender hears so.
    std::vector<Mail> mails() const;
    // Those that were received to their end and then refused, or dropped. By LMTP a mail that was taken for some
    // recipients and refused for others is in both lists, with those.
    std::vector<Mail> refused() const;
    // What a verdict or a listener threw; its client heard 451.
    std::vector<std::string> troubles() const;
    // Forgets mails and troubles; what is said below stays.
    void clear();

    // ---- how it answers ----

    // What becomes of a mail for one of its recipients; 2xx takes it. By SMTP the sender hears the worst of them, and
    // the mail is taken by all or by nobody. Reject may be thrown. Called on the threads of the sessions, several at
    // once; an empty one takes everything again.
    using Verdict = std::function<Reply(const Mail&, const Recipient&)>;
    void verdict(Verdict);

    // To a command that begins so, letters without case: EHLO, HELO, LHLO, AUTH (when the attempt has come to its end),
    // "MAIL FROM:<a@", "RCPT TO:<bad@", DATA (the first BDAT as well), "" for the greeting, "." for the end of a text,
    // instead of the verdict. The server looks at the command first, so only what is correct and comes in order gets
    // there. `times`: so often, then no more. The longest beginning that fits wins, of equals the last that was said.
    // std::invalid_argument for another command (ScriptedServer answers any), and for a reply that can't be the answer:
    // DATA has refusals only, the greeting 220 and refusals, AUTH 235 and refusals, the others 2xx and refusals. No 235
    // lets in who has failed.
    void reply_to(std::string_view beginning, const Reply& reply, std::size_t times = always);
    // The connection is gone without an answer, and what was not yet sent of the answers before it.
    void drop(std::string_view beginning, std::size_t times = always);
    // The answer, or the drop, comes so much later.
    void delay(std::string_view beginning, milliseconds time, std::size_t times = always);
    // Takes back the verdict and everything said by reply_to(), drop() and delay().
    void be_polite();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace Net::SMTP::Test
