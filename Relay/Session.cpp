#include "Session.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <exception>
#include <iterator>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "../Server/Shared.hpp"
#include "../Server/Text.hpp"
#include "../Server/Utf8Address.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t longest_line = 2048;             // RFC 5321 4.5.3.1.5 says 512; some say more
constexpr std::size_t longest_challenge = 12'288 + 6;  // RFC 4954 4, with "334 " and CRLF
constexpr int most_lines = 128;
constexpr std::size_t most_waste = 64 * 1024;  // of a line that is too long is heard; then it is enough
constexpr std::size_t most_text = 4096;        // each recipient may have a reply of its own
constexpr std::size_t piece = 64 * 1024;
// RFC 2920 3.1: whoever sends more than fits, while nobody reads the replies, may wait for ever.
constexpr std::size_t largest_group = 100;

bool digit(char c) { return c >= '0' && c <= '9'; }

// Whether it would survive the grammar that what we receive has to pass.
bool mailbox(const Address& a) {
    const auto parsed = Address::parse(a.str());
    return parsed && parsed->local == a.local && parsed->domain == a.domain;
}

// What says something about a host, and nothing about us.
bool nobody_there(const std::error_code& code) {
    using enum std::errc;
    for (const auto said : {connection_refused, connection_reset, host_unreachable, network_unreachable, network_down,
                            no_such_file_or_directory})
        if (code == said) return true;
    return false;
}

// RFC 4954 5: who can't be named within the 500 octets that it has is unknown.
std::string submitter(const std::string& mailbox) {
    constexpr std::size_t most = 500 - sizeof " AUTH=" + 1;
    auto text = xtext_encode(mailbox);
    return text.empty() || text.size() > most ? "<>" : text;
}

// RFC 4422 3.1. What is no mechanism's name is left out.
void heard_mechanisms(std::string_view names, std::vector<std::string>& all) {
    const auto fits = [](unsigned char c) { return (c >= 'A' && c <= 'Z') || digit(char(c)) || c == '-' || c == '_'; };
    while (!names.empty()) {
        const auto end = std::min(names.find(' '), names.size());
        std::string name(names.substr(0, end));
        names.remove_prefix(std::min(end + 1, names.size()));
        for (auto& c : name)
            if (c >= 'a' && c <= 'z') c = char(c - 'a' + 'A');
        const bool known = std::ranges::find(all, name) != all.end();
        if (!name.empty() && name.size() <= 20 && std::ranges::all_of(name, fits) && !known) all.push_back(name);
    }
}

}  // namespace

// Between a command and its reply: an exception that ends it ends the connection too, since whatever is said next
// would be heard as something else.
class Session::Dialogue {
public:
    explicit Dialogue(Session& session) : session_(session) {}
    ~Dialogue() {
        if (std::uncaught_exceptions() > before_) session_.close();
    }
    Dialogue(const Dialogue&) = delete;
    Dialogue& operator=(const Dialogue&) = delete;

private:
    Session& session_;
    const int before_ = std::uncaught_exceptions();
};

Upstream Upstream::parse(std::string_view text, std::uint16_t port) {
    auto rest = text;
    Upstream out;
    for (const auto& [prefix, protocol] : {std::pair{"smtp:", Protocol::smtp}, {"lmtp:", Protocol::lmtp}})
        if (rest.starts_with(prefix)) {
            out.protocol = protocol;
            rest.remove_prefix(5);
            if (rest.starts_with("//")) rest.remove_prefix(2);
            break;
        }
    const bool lmtp = out.protocol == Protocol::lmtp;
    try {
        out.endpoint = Endpoint::parse(rest, lmtp ? 24 : port);
    } catch (const std::invalid_argument& e) {
        throw std::invalid_argument("no next hop: " + std::string(text) + " (" + e.what() + ')');
    }
    if (out.endpoint.host.empty() || (!out.endpoint.local() && out.endpoint.port == 0))
        throw std::invalid_argument("no next hop: " + std::string(text));
    if (lmtp && out.endpoint.port == 25) throw std::invalid_argument("LMTP is not for port 25: " + std::string(text));
    return out;
}

Session::Session(const Upstream& host, const std::string& hostname, const Patience& patience, Deadline end,
                 std::shared_ptr<Shared> server, const Security& security)
    : host_(host),
      name_(host.str()),
      hostname_(hostname),
      patience_(patience),
      end_(end),
      security_(security),
      owner_(getpid()) {
    if (hostname.empty() || !std::ranges::all_of(hostname, [](unsigned char c) { return c > 32 && c != 127; }))
        throw std::invalid_argument("Session: hostname: " + hostname);
    const auto wanted = level();
    open(wanted, server);
    if (failure_ && tls_failed_ && wanted == ClientTLS::Level::may) {
        failure_.reset();
        open(ClientTLS::Level::none, std::move(server));
    }
    if (!failure_ && security_.login) log_in();
}

void Session::open(ClientTLS::Level level, std::shared_ptr<Shared> server) {
    const bool implicit = level != ClientTLS::Level::none && security_.tls.options().implicit;
    tls_.clear();
    const auto patience = Clock::now() + patience_.connect;
    unreachable_ = false;
    try {
        connection_ = Connection::connect(host_.endpoint, Shared::wait(server, std::min(patience, end_)));
    } catch (const std::system_error& e) {
        unreachable_ = nobody_there(e.code()) || (e.code() == std::errc::timed_out && Clock::now() >= patience);
        fail({451, "4.4.1", e.what()});
        return;
    } catch (const std::exception& e) {
        fail({451, "4.4.1", e.what()});
        return;
    }
    connection_.shared = std::move(server);
    if (host_.witness.hear)
        tell("-- ", "connect from " + connection_.local().str() + " to " + connection_.peer().str());
    if (implicit && !encrypt(level)) return;
    greeting();
    if (!failure_) hello();
    if (!failure_ && level != ClientTLS::Level::none && !implicit) start_tls(level);
}

void Session::greeting() {
    const auto greeting = read_reply(until(patience_.greeting), About::connection);
    reached_ = reached_ || !failure_ || greeting.code == 421;
    if (failure_ || greeting.code == 220) return;
    fail(greeting.permanent() || greeting.temporary() ? greeting
                                                      : Reply{451, "4.5.0", name_ + " greets with " + greeting.str()});
}

Session::~Session() {
    try {
        quit();
    } catch (const std::bad_alloc&) {
        // then without a word
    }
}

bool Session::alive() const { return !failure_ && connection_ && getpid() == owner_; }

void Session::extend(Deadline end, std::shared_ptr<Shared> server) {
    end_ = end;
    connection_.shared = std::move(server);
}

// ---- what others hear of it ----

void Session::heard_by(Witness witness) {
    tell("-- ", "the connection is kept");
    host_.witness = std::move(witness);
    if (host_.witness.hear) tell("-- ", "a kept connection, mails before: " + std::to_string(mails_));
}

void Session::tell(std::string_view who, std::string_view what) const noexcept {
    const auto& witness = host_.witness;
    if (!witness.hear || getpid() != owner_) return;
    try {
        witness.hear(witness.session, name_, std::string(who).append(what));
    } catch (...) {
        // no mail is lost for it
    }
}

void Session::tell_reply(std::string_view line) const noexcept {
    if (!host_.witness.hear) return;
    // Of a challenge, or an echo, no more than its code is shown.
    const bool challenge = line.starts_with("334") && line.size() > 4;
    if (!challenge && !repeats(line)) return tell("S: ", line);
    if (line.size() < 4 || !std::ranges::all_of(line.substr(0, 3), digit)) return tell("S: ", "***");
    char shown[] = "000 ***";
    line.copy(shown, line[3] == '-' ? 4 : 3);
    tell("S: ", shown);
}

void Session::tell_text(const std::string& head, const Message& message) const {
    if (!host_.witness.hear) return;
    const auto name = message.id().empty() ? "message, " : "message " + message.id() + ", ";
    tell("-- ", name + std::to_string(head.size() + message.size()) + " octets");
}

void Session::tell_failure(const Reply& reply) const noexcept {
    if (!host_.witness.hear) return;
    try {
        auto why = "given up: " + reply.str();
        std::ranges::replace(why, '\n', ' ');
        tell("-- ", repeats(why) ? "given up: ***" : why);
    } catch (const std::bad_alloc&) {
        // then without a word
    }
}

void Session::hello() {
    offer_ = {};
    const bool lmtp = host_.protocol == Protocol::lmtp;
    auto reply = command((lmtp ? "LHLO " : "EHLO ") + hostname_, patience_.helo);
    if (failure_) return;
    if (reply.positive()) return heard_offer(reply.text);
    if (reply.permanent() && !lmtp) {  // RFC 5321 3.2: a server that only knows HELO
        reply = command("HELO " + hostname_, patience_.helo);
        if (failure_ || reply.positive()) return;
    }
    fail(reply);
}

void Session::heard_offer(std::string_view lines) {
    for (bool first = true; !lines.empty(); first = false) {
        const auto end = std::min(lines.find('\n'), lines.size());
        const auto line = lines.substr(0, end);
        lines.remove_prefix(std::min(end + 1, lines.size()));
        if (first) continue;  // its name
        const auto blank = std::min(line.find(' '), line.size());
        const auto keyword = line.substr(0, blank);
        auto& x = offer_.extensions;
        for (auto [name, flag] : {std::pair{"PIPELINING", &x.pipelining},
                                  {"SIZE", &x.size},
                                  {"8BITMIME", &x.eight_bit_mime},
                                  {"CHUNKING", &x.chunking},
                                  {"ENHANCEDSTATUSCODES", &x.enhanced_status_codes},
                                  {"SMTPUTF8", &x.smtputf8},
                                  {"DSN", &x.dsn},
                                  {"BINARYMIME", &x.binary_mime},
                                  {"AUTH", &x.auth},
                                  {"STARTTLS", &offer_.starttls}})
            if (same_text(keyword, name)) *flag = true;
        if (same_text(keyword, "AUTH")) heard_mechanisms(line.substr(blank), offer_.mechanisms);
        if (same_text(keyword, "SIZE") && blank < line.size())
            std::from_chars(line.data() + blank + 1, line.data() + line.size(), offer_.max_size);
    }
}

Deadline Session::until(std::chrono::seconds patience) const { return std::min(Clock::now() + patience, end_); }

// What ends the session is also what is answered from now on.
Reply Session::fail(Reply reply) {
    if (!failure_) tell_failure(reply);
    close();
    if (reply.code < 400 || reply.code > 599) reply = {451, "4.5.0", name_ + " said " + reply.str()};
    if (!failure_) failure_ = reply;
    return reply;
}

Reply Session::read_reply(Deadline deadline, About about) {
    if (failure_) return *failure_;
    Reply reply{0, "", ""};
    const auto longest = about == About::login ? longest_challenge : longest_line;
    for (int lines = 0; lines < most_lines; ++lines) {
        std::string_view line;
        const auto got = connection_.read_line(line, longest, deadline, true, false, most_waste);
        if (got == Connection::Got::timeout) return fail({451, "4.4.2", name_ + " did not answer in time"});
        if (got == Connection::Got::too_long) return fail({451, "4.5.0", name_ + " sent a line that is too long"});
        if (got != Connection::Got::data) return fail({451, "4.4.2", "Connection to " + name_ + " lost"});

        tell_reply(line);
        if (line.size() < 3 || !digit(line[0]) || !digit(line[1]) || !digit(line[2]) ||
            (line.size() > 3 && line[3] != ' ' && line[3] != '-'))
            return fail({451, "4.5.0", name_ + " sent what is no SMTP reply"});
        const int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
        if (code < 200 || code > 599 || (lines > 0 && code != reply.code))
            return fail({451, "4.5.0", name_ + " sent what is no SMTP reply"});
        reply.code = code;
        const bool last = line.size() == 3 || line[3] == ' ';
        auto text = line.substr(std::min<std::size_t>(4, line.size()));
        const auto blank = std::min(text.find(' '), text.size());
        const auto status = text.substr(0, blank);
        if (valid_status(status)) {
            reply.status.assign(status);
            reply.status[0] = line[0];  // RFC 2034 4: the class is the code's; who contradicts himself means the code
            text.remove_prefix(std::min(blank + 1, text.size()));
        }
        const bool challenge = about == About::login && code == 334;
        if (reply.text.size() + text.size() < (challenge ? longest_challenge : most_text)) {
            if (lines > 0) reply.text += '\n';
            const auto clean = [](unsigned char c) { return c < 32 || c == 127 ? ' ' : char(c); };
            std::ranges::transform(text, std::back_inserter(reply.text), clean);
        }
        if (!last) continue;
        if (about != About::login && repeats(reply.text)) reply.text = "(what it says repeats what we said)";
        if (code == 421) fail(reply);
        // 354 says go on; nothing but DATA has anything to go on with, and 334 belongs to AUTH. 22x is about the
        // connection (RFC 5321 4.2.1): who says goodbye has not taken a mail.
        const bool go_on = challenge || (about == About::text && code == 354);
        if ((code / 100 == 3 && !go_on) || (code / 10 == 22 && about != About::connection)) return fail(reply);
        return reply;
    }
    return fail({451, "4.5.0", name_ + " sent a reply without an end"});
}

Reply Session::command(const std::string& line, std::chrono::seconds patience, About about) {
    const Dialogue dialogue(*this);
    if (failure_ || out_of_step()) return *failure_;
    auto& out = connection_.out();
    out.reserve(out.size() + line.size() + 2);  // no copy of a secret is left elsewhere
    out.append(line).append("\r\n");
    if (host_.witness.hear) tell("C: ", about == About::login ? without_secret(line) : line);
    return read_reply(until(patience), about);
}

// It leaves with what is said next.
void Session::say(const std::string& line) {
    connection_.out().append(line).append("\r\n");
    tell("C: ", line);
}

// Who answers before he is asked can't be understood any more: the next reply may be to anything.
bool Session::out_of_step() {
    if (!connection_.readable()) return false;
    connection_.out().clear();  // he may not read any more
    const auto reply = read_reply(until(std::chrono::seconds(1)));
    if (!failure_) fail(reply.positive() ? Reply{451, "4.5.0", name_ + " answers before it is asked"} : reply);
    return true;
}

// ---- the envelope ----

std::optional<Reply> Session::unsendable(const Sender& from) const {
    const auto& x = offer_.extensions;
    if (!from.null() && !mailbox(from)) return Reply{553, "5.1.7", "The sender is not a mailbox"};
    if ((from.smtputf8 || from.utf8()) && !x.smtputf8) return Reply{550, "5.6.7", name_ + " does not offer SMTPUTF8"};
    if (from.body == BodyType::eight_bit_mime && !x.eight_bit_mime)
        return Reply{554, "5.6.3", name_ + " does not offer 8BITMIME"};
    if (from.body == BodyType::binary_mime && !(x.binary_mime && x.chunking))
        return Reply{554, "5.6.3", name_ + " does not offer BINARYMIME"};
    return std::nullopt;
}

std::optional<Reply> Session::unsendable(const Recipient& to) const {
    if (to.null() || !mailbox(to)) return Reply{553, "5.1.3", "The recipient is not a mailbox"};
    if (to.utf8() && !offer_.extensions.smtputf8) return Reply{550, "5.6.7", name_ + " does not offer SMTPUTF8"};
    if (to.utf8() && !utf8_) return Reply{553, "5.6.7", "UTF-8 in an address needs SMTPUTF8"};
    return std::nullopt;
}

std::string Session::mail_line(const Sender& from, std::uint64_t size) const {
    const auto& x = offer_.extensions;
    std::string line = "MAIL FROM:<" + from.str() + '>';
    if (x.size && size > 0) line += " SIZE=" + std::to_string(size);
    if (from.body == BodyType::eight_bit_mime) line += " BODY=8BITMIME";
    if (from.body == BodyType::binary_mime) line += " BODY=BINARYMIME";
    if (utf8_) line += " SMTPUTF8";
    if (x.dsn && from.ret != Return::unsaid) line += from.ret == Return::full ? " RET=FULL" : " RET=HDRS";
    if (x.dsn && from.envid) line += " ENVID=" + xtext_encode(*from.envid);
    if (x.auth && security_.login && from.auth) line += " AUTH=" + submitter(*from.auth);
    return line;
}

std::string Session::rcpt_line(const Recipient& to) const {
    std::string line = "RCPT TO:<" + to.str() + '>';
    if (!offer_.extensions.dsn) return line;
    if (to.notify.said()) line += " NOTIFY=" + to.notify.str();
    if (!to.orcpt) return line;
    line += " ORCPT=" + xtext_encode(to.orcpt->type) + ';';
    // RFC 6533 3 has an encoding of its own; xtext speaks of ASCII.
    const auto& address = to.orcpt->address;
    const bool international = same_text(to.orcpt->type, "utf-8");
    line += international ? utf8_address_encode(utf8_address_decode(address), utf8_) : xtext_encode(address);
    return line;
}

Reply Session::mail(const Sender& from, std::uint64_t size, std::span<const Recipient> to, std::vector<Reply>& replies,
                    bool and_data) {
    const Dialogue dialogue(*this);
    replies.clear();
    accepted_ = 0;
    ++mails_;
    if (failure_) return *failure_;
    if (auto refusal = unsendable(from)) return *refusal;
    utf8_ = from.smtputf8 || from.utf8();
    body_ = from.body;
    if (offer_.max_size > 0 && size > offer_.max_size) return {552, "5.3.4", "Message is too large for " + name_};
    if (!offer_.extensions.pipelining) {
        auto reply = command(mail_line(from, size), patience_.mail);
        if (reply.positive())
            for (const auto& r : to) replies.push_back(rcpt(r));
        return reply;
    }
    if (out_of_step()) return *failure_;
    say(mail_line(from, size));
    and_data = and_data && to.size() == 1 && host_.protocol == Protocol::smtp && from.body != BodyType::binary_mime;
    std::optional<Reply> reply;
    std::vector<std::optional<Reply>> refusals;  // of the group, ours
    while (!reply || (!to.empty() && !failure_)) {
        const auto group = to.first(std::min(to.size(), largest_group));
        to = to.subspan(group.size());
        refusals.clear();
        for (const auto& r : group) {
            refusals.push_back(unsendable(r));
            if (!refusals.back()) say(rcpt_line(r));
        }
        and_data = and_data && !refusals.front();
        if (and_data) say("DATA");
        if (!reply) reply = read_reply(until(patience_.mail));
        for (auto& refusal : refusals) {
            replies.push_back(refusal ? std::move(*refusal) : read_reply(until(patience_.rcpt)));
            if (replies.back().positive()) ++accepted_;
        }
        if (and_data && !failure_) {
            go_ = read_reply(until(patience_.data), About::text);
            if (accepted_ == 0 || !reply->positive()) no_text_follows();
            else if (go_->positive() && go_->code != 354) fail(*go_);  // it was said to something else
        }
        if (!reply->positive()) {
            replies.clear();
            break;
        }
    }
    for (; !to.empty() && reply->positive(); to = to.subspan(1)) replies.push_back(*failure_);
    return *reply;
}

Reply Session::rcpt(const Recipient& to) {
    if (auto refusal = unsendable(to)) return *refusal;
    auto reply = command(rcpt_line(to), patience_.rcpt);
    if (reply.positive()) ++accepted_;
    return reply;
}

// ---- the text ----

bool Session::send_text(const std::string& head, const Message& message) {
    auto& out = connection_.out();
    out += head;
    bool at_start = true;
    std::uint64_t offset = 0;
    std::string buffer;
    const bool in_memory = !message.spooled();
    const auto view = in_memory ? message.view() : std::string_view();
    if (!in_memory) buffer.resize(piece);
    while (offset < message.size()) {
        std::string_view part;
        if (in_memory) {
            part = view.substr(std::size_t(offset), piece);
        } else {
            part = {buffer.data(), message.read(offset, buffer.data(), buffer.size())};
        }
        offset += part.size();
        append_stuffed(out, part, at_start);
        const bool full = out.size() >= piece && offset < message.size();
        if (full && (out_of_step() || !connection_.flush(until(patience_.block)))) return false;
    }
    if (!at_start) out += "\r\n";  // RFC 5321 4.1.1.4: the last line has its CRLF before the dot
    return true;
}

bool Session::send_chunk(const std::string& head, const Message& message) {
    auto& out = connection_.out();
    say("BDAT " + std::to_string(head.size() + message.size()) + " LAST");
    out += head;
    const auto view = message.spooled() ? std::string_view() : message.view();
    std::string buffer(message.spooled() ? piece : 0, '\0');
    for (std::uint64_t offset = 0; offset < message.size();) {
        auto part = view.substr(std::min<std::size_t>(std::size_t(offset), view.size()), piece);
        if (message.spooled()) part = {buffer.data(), message.read(offset, buffer.data(), buffer.size())};
        offset += part.size();
        // The last octet is the end here: whoever waits is asked before it goes.
        if (out_of_step() || (offset == message.size() && !message.sender_present())) return false;
        if (part.size() < piece) {
            out.append(part);
            if (!connection_.flush(until(patience_.block))) return false;
        } else if (!connection_.send(part, until(patience_.block))) {
            return false;
        }
    }
    return !message.empty() || (message.sender_present() && connection_.flush(until(patience_.block)));
}

// After the end: by SMTP one reply, by LMTP one for each recipient that was accepted.
std::vector<Outcome> Session::end_replies() {
    if (host_.protocol == Protocol::smtp) {
        const auto reply = read_reply(until(patience_.data_end));
        return std::vector<Outcome>(accepted_, {reply, failure_ && reply.code != 421});
    }
    std::vector<Outcome> out;
    while (out.size() < accepted_) {
        const bool over = failure_.has_value();
        auto reply = read_reply(until(patience_.data_end));
        out.push_back({std::move(reply), failure_ && (over || failure_->code != 421)});
    }
    return out;
}

std::vector<Outcome> Session::all(const Reply& reply, bool in_doubt) const {
    return std::vector<Outcome>(accepted_, {reply, in_doubt});
}

std::vector<Outcome> Session::data(const std::string& head, const Message& message, bool chunked) {
    const Reply gone{451, "4.4.2", "The sender has gone before the end"};
    const Reply lost{451, "4.4.2", "Connection to " + name_ + " lost while sending the message"};
    if (failure_) return all(*failure_);
    const bool binary = body_ == BodyType::binary_mime;
    const Dialogue dialogue(*this);
    bool ended = false;
    try {
        // What stands between the commands and the text must not be let in, whichever way it goes.
        if (!binary && message.bare_line_ends()) {
            const Reply bare{554, "5.6.0", "Message holds a CR or LF that stands alone (RFC 5321 2.3.8)"};
            no_text_follows();
            return all(bare);
        }
        if (!go_ && (binary || (chunked && offer_.extensions.chunking))) {
            if (out_of_step()) return all(*failure_);
            if (!send_chunk(head, message))
                return all(failure_ ? *failure_ : fail(message.sender_present() ? lost : gone));
            ended = true;
            tell_text(head, message);
            const auto outcomes = end_replies();
            // Servers are known that refuse a chunk and run its octets as commands: what they say next is to those.
            if (std::ranges::none_of(outcomes, &Reply::positive, &Outcome::reply)) leave();
            return outcomes;
        }
        const auto go = go_ ? *std::exchange(go_, std::nullopt) : command("DATA", patience_.data, About::text);
        if (go.code != 354) return all(go.positive() ? fail(go) : go);
        if (!send_text(head, message)) return all(failure_ ? *failure_ : fail(lost));
        if (!message.sender_present()) return all(fail(gone));
        if (out_of_step()) return all(*failure_);
        connection_.out() += ".\r\n";
        // What our own system did not take can't have arrived.
        if (!connection_.flush(until(patience_.block))) return all(fail(lost));
        ended = true;
        tell_text(head, message);
        return end_replies();
    } catch (const std::exception&) {
        // Our own copy could not be read, or there is no memory: the half that has gone must not become a mail.
        close();
        return all(fail({451, "4.3.0", "The message could not be sent"}), ended);
    }
}

// 354 could only be answered by an empty mail, or by leaving.
void Session::no_text_follows() {
    if (go_ && go_->code == 354) close();
    go_.reset();
}

void Session::reset() {
    no_text_follows();
    if (alive() && !command("RSET", patience_.quit).positive()) leave();
}

void Session::quit() {
    no_text_follows();
    if (alive()) command("QUIT", patience_.quit, About::connection);
    close();
}

void Session::leave() noexcept {
    no_text_follows();
    try {
        if (alive()) {
            say("QUIT");
            connection_.flush(Clock::now());
        }
    } catch (const std::bad_alloc&) {
        // then without a word
    }
    close();
}

void Session::close() noexcept {
    if (connection_) tell("-- ", "disconnect");
    connection_.close();
}

}  // namespace Net::SMTP
