#include "Client.hpp"

#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <random>
#include <stdexcept>

#include "Body.hpp"
#include "Content.hpp"
#include "Event.hpp"
#include "Shared.hpp"

namespace Net::SMTP {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t much_output = 16 * 1024;  // is sent before more input is read

// By itself: the device takes 5,000 octets of the stack, which would be a page more of every session's.
[[gnu::noinline]] std::uint64_t random_of_the_device() {
    std::random_device device;
    return std::uint64_t(device()) << 32 | device();
}

// 13 letters and digits that no other session has, in another process or after a fork either.
std::string unique_id() {
    std::uint64_t bits = 0;
    if (getrandom(&bits, sizeof bits, 0) != sizeof bits) bits = random_of_the_device();
    constexpr std::string_view letters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    std::string out;
    for (int i = 0; i < 13; ++i, bits >>= 5) out += letters[bits & 31];
    return out;
}

// RFC 5321 3.8: it says that we close.
bool closes(const Reply& reply) { return reply.code == 421 || reply.code == 221; }

void need(bool fine, const Reply& reply, const char* what) {
    if (!fine) throw std::invalid_argument(std::string(what) + std::to_string(reply.code));
}

}  // namespace

Server::Client::Client(Connection connection)
    : connection_(std::move(connection)),
      shared_(connection_.shared ? connection_.shared : std::make_shared<Shared>(Options())) {
    begin();
}

Server::Client::Client(Connection connection, Options options)
    : connection_(std::move(connection)), shared_(std::make_shared<Shared>(std::move(options))) {
    begin();
}

Server::Client::Client(int fd, Options options) : Client(Connection(fd), std::move(options)) {}

void Server::Client::begin() {
    if (!connection_) throw std::invalid_argument("Client: no client connection");
    id_ = unique_id();
    lmtp_ = shared_->options.protocol == Protocol::lmtp;
    statuses_ = lmtp_ || shared_->options.offer.enhanced_status_codes;
    offer_ = shared_->options.offer;
    began_ = Clock::now();
    owner_ = getpid();
    if (shared_->options.reachable) {
        mailbox_ = std::make_shared<Mailbox>();
        connection_.wake_fd = mailbox_->fd();
        shared_->mailboxes.add(id_, mailbox_);
    }
    connection_.idle = give_back;
    connection_.idle_argument = this;
}

Server::Client::~Client() {
    if (getpid() != owner_) return;
    if (mailbox_) {
        mailbox_->close();
        shared_->mailboxes.remove(id_);
    }
    try {
        body_.reset();
        conclude();
        const bool understood = !connection_.implicit_tls || tls();  // who expects TLS does not read plain text
        if (!ended_ && greeting_refusal_ && !greeted_ && understood) {
            begun_ = true;
            goodbye(*greeting_refusal_);
        }
        if (!ended_ && greeted_) {
            // The model's loop takes one mail and leaves: most clients say QUIT now, and shall hear an answer.
            std::string_view line;
            const auto got = connection_.read_line(line, shared_->options.max_command_line, Clock::now() + 2s);
            if (got == Connection::Got::data && Command::parse(line).verb == Verb::QUIT)
                goodbye({221, "2.0.0", shared_->options.hostname + " closing connection"}, false);
            else if (got != Connection::Got::end)
                goodbye({421, "4.3.2", shared_->options.hostname + " closing connection"});
        }
        leave();
    } catch (...) {
        // Nothing but a lack of memory gets here. The connection is closed; an answer not given is no promise.
    }
    if (content_) content_->sender_present = nullptr;
}

const Options& Server::Client::options() const { return shared_->options; }
Pipeline& Server::Client::pipeline() const { return shared_->pipeline; }

Deadline Server::Client::session_end() const {
    const auto session = shared_->options.session_timeout;
    return session > 0s ? began_ + session : Deadline::max();
}

Deadline Server::Client::deadline(std::chrono::seconds wait) const {
    return std::min(Clock::now() + wait, session_end());
}

bool Server::Client::pause(Deadline until) {
    until = std::min(until, session_end());
    return connection_.flush(deadline(shared_->options.command_timeout)) && connection_.pause(until);
}

bool Server::Client::pending() { return connection_.readable() && !connection_.peer_gone(); }

Wait Server::Client::wait(Deadline end) const { return Shared::wait(shared_, std::min(end, session_end())); }

void Server::Client::say(const Reply& reply) {
    if (!heard<Event::Response>()) return put(reply);
    if (const auto other = shown(reply)) put(*other);
}

std::optional<Reply> Server::Client::shown(Reply reply) {
    const int code = reply.code;
    const bool to_go_on = code / 100 == 3 || starting_tls_;
    bool swallow = false;
    Event::Response event(*this, reply, swallow);
    show(event);
    if (to_go_on || reply.code < 200 || reply.code / 100 == 3 || reply.code > 599) reply.code = code;
    if (swallow && !to_go_on) return std::nullopt;
    hang_up_ |= !to_go_on && closes(reply);
    return reply;
}

void Server::Client::put(const Reply& reply) {
    reply.append_to(connection_.out(), statuses_);
    if (connection_.out().size() > much_output) connection_.flush(deadline(shared_->options.command_timeout));
}

void Server::Client::say_one(Reply reply) {
    if (reply.code == 421) {
        reply.code = 451;  // who hears that we close may not listen to the others' replies
        hang_up_ = true;
    }
    say(reply);
}

Reply Server::Client::say_each(const Reply& answer) {
    for (std::size_t n = 1; n < named_.size(); ++n) say_one(answer);
    return answer;
}

void Server::Client::goodbye(Reply reply, bool politely) {
    if (ended_) return;
    ended_ = true;
    last_ = std::move(reply);
    say(last_);
    connection_.finish(politely);
}

void Server::Client::conclude_by(Reply reply) {
    if (hang_up_ || reply.code == 421) return goodbye(std::move(reply));
    say(reply);
    if (!hang_up_) return;
    ended_ = true;
    last_ = std::move(reply);
    connection_.finish(true);
}

void Server::Client::trouble(const std::string& what) { shared_->trouble(this, what); }

// ---- the way of a session ----

void Server::Client::leave() {
    if (mailbox_) mailbox_->close();
    if (!begun_ || std::exchange(left_, true)) return;
    Event::Disconnect event(*this, last_);
    show(event);
}

bool Server::Client::greet() {
    begun_ = true;
    if (connection_.implicit_tls && !tls()) {
        // A handshake is dear, and words in the clear are not heard.
        if (connection_.slot && connection_.slot->over()) {
            ended_ = true;
            connection_.close();
            return false;
        }
        if (!encrypt()) return false;
    }
    connection_.out().reserve(256);  // enough for EHLO's reply: growing step by step would cost the heap twice that
    const auto& o = shared_->options;
    static const std::string ours = "LMTP";
    const auto& word = lmtp_ && o.greeting == "ESMTP" ? ours : o.greeting;
    Reply greeting{220, "", word.empty() ? o.hostname : o.hostname + ' ' + word};
    if (!o.handle_connects) greeting = {0, "", ""};
    if (connection_.slot && connection_.slot->over()) {
        greeting = {421, "4.7.0", o.hostname + " Too many connections"};
    } else if (!greeting_refusal_) {
        Event::Connect event(*this, greeting);
        show(event);
    }
    if (greeting_refusal_) greeting = *greeting_refusal_;
    greeted_ = true;
    if (greeting.code == 0 && !o.handle_connects) return true;
    if (greeting.code == 220) conclude_by(greeting);
    else goodbye(greeting);
    return !ended_;
}

bool Server::Client::process() {
    if (ended_ && told_) throw std::logic_error("process() on a session that is over");
    try {
        conclude();
        reset();
        complete_ = false;
        if (!ended_ && (greeted_ || greet())) converse();
    } catch (const std::bad_alloc&) {
        complete_ = false;
        give_up();
    }
    if (complete_) return true;
    body_.reset();
    told_ = true;
    leave();
    return false;
}

// No memory: say so if there is enough for that.
void Server::Client::give_up() noexcept {
    try {
        body_.reset();
        goodbye({421, "4.3.1", "Insufficient system resources"});
    } catch (...) {
        ended_ = true;
        connection_.close();
    }
}

void Server::Client::converse() {
    using Got = Connection::Got;
    const auto& o = shared_->options;
    std::optional<Deadline> until;  // for the command; what others have us say in between gives no more time
    while (!ended_ && !complete_) {
        if (mailbox_) deliver();
        if (ended_) return;
        if (!until) until = deadline(o.command_timeout);
        std::string_view line;
        const bool idle = phase_ == Phase::start || phase_ == Phase::ready;
        const auto got = connection_.read_line(line, line_limit(), *until, o.lenient.lf_commands, idle);
        switch (got) {
            case Got::end:
                ended_ = true;
                connection_.close();
                return;
            case Got::timeout: return goodbye({421, "4.4.2", o.hostname + " Timeout, closing connection"});
            case Got::stopped: return goodbye({421, "4.3.2", o.hostname + " Service shutting down"});
            case Got::woken: continue;
            case Got::data:
            case Got::too_long: break;
        }
        until.reset();
        if (o.max_commands > 0 && ++commands_ > o.max_commands)
            return goodbye({421, "4.7.0", o.hostname + " Too many commands"});

        const bool long_one = got == Got::too_long || too_long(line);
        answer_command(long_one ? unread(line, {500, "5.5.2", "Line too long"}) : command(line));
        if (own_sink_ && !ended_) answer_command(own_text());
    }
}

void Server::Client::deliver() {
    for (const auto& reply : mailbox_->take())
        if (!ended_) answer_command(reply);
}

void Server::Client::answer_command(const Answer& reply) {
    if (!reply) return;
    const auto& o = shared_->options;
    const bool error = (reply->code >= 500 && reply->code <= 504) || reply->code == 555;
    if (error && o.max_errors > 0 && ++errors_ > o.max_errors)
        return goodbye({421, "4.7.0", o.hostname + " Too many errors"});
    conclude_by(*reply);
}

// Forgets the transaction, not the session (RFC 5321 4.1.1.5).
void Server::Client::reset() {
    FROM = Sender();
    TO.clear();
    named_.clear();
    MSG = Message();
    sink_of_mail_.reset();
    body_.reset();
    if (phase_ == Phase::mail || phase_ == Phase::chunks) phase_ = Phase::ready;
    if (!content_) return;
    content_->sender_present = nullptr;
    if (content_.use_count() == 1) content_->clear();
    else content_.reset();  // somebody keeps a copy of the message
}

void Server::Client::into(std::shared_ptr<Sink> sink) {
    (phase_ == Phase::mail ? sink_of_mail_ : sink_) = std::move(sink);
}

void Server::Client::data_mode(std::shared_ptr<Sink> sink) {
    if (may_answer_) own_sink_ = std::move(sink);
}

void Server::Client::data_mode(int fd, bool sync) {
    struct Synced : Sink {
        Synced(std::shared_ptr<Sink> s, int f) : sink(std::move(s)), fd(f) {}
        void write(std::string_view octets) override { sink->write(octets); }
        void end(bool complete) override {
            if (complete && fsync(fd) != 0) throw std::system_error(errno, std::generic_category(), "fsync");
            sink->end(complete);
        }
        std::shared_ptr<Sink> sink;
        int fd;
    };
    auto sink = make_sink(fd);
    if (sync) sink = std::make_shared<Synced>(std::move(sink), fd);
    data_mode(std::move(sink));
}

std::any& Server::Client::baggage() {
    if (!content_) throw std::logic_error("baggage() outside of a transaction");
    return content_->baggage;
}

// Nothing has come for a second: a silent session keeps no memory but what it must.
void Server::Client::give_back(void* client) {
    auto& self = *static_cast<Client*>(client);
    if (self.phase_ != Phase::ready && self.phase_ != Phase::start) return;
    self.content_.reset();
    self.view_ = {};
    self.TO.shrink_to_fit();
    self.named_.shrink_to_fit();
    if (const auto trim = self.shared_->trim_stack) {
        // What deeper calls have touched before is dead now.
        constexpr std::uintptr_t page = 4096, margin = 512;
        const auto end = (reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)) - margin) / page * page;
        madvise(reinterpret_cast<void*>(end - trim), trim, MADV_DONTNEED);
    }
}

// ---- the answer ----

void Server::Client::accept(const Reply& reply) {
    need(reply.code >= 200 && reply.code < 300, reply, "accept: not a positive answer: ");
    give(reply);
}

void Server::Client::reject(Reply reply) {
    need(reply.code >= 400 && reply.code < 600, reply, "reject: not a refusal: ");
    if (!greeted_) {
        greeting_refusal_ = std::move(reply);
        return;
    }
    give(reply);
}

void Server::Client::give(const Reply& verdict) {
    if (!awaiting_) throw std::logic_error("a verdict, but no message waits for one");
    content_->custody.begin();
    content_->custody.settle(verdict);
}

void Server::Client::thrown(const Reply& reply) {
    if (!lmtp_) return reject(reply);
    if (!awaiting_) throw std::logic_error("a verdict, but no message waits for one");
    content_->custody.settle_rest(reply);
}

void Server::Client::accept(const Recipient& recipient, const Reply& reply) {
    need(reply.code >= 200 && reply.code < 300, reply, "accept: not a positive answer: ");
    if (!awaiting_) throw std::logic_error("a verdict, but no message waits for one");
    content_->custody.begin({&recipient, 1});
    content_->custody.settle(recipient, reply);
}

void Server::Client::reject(const Recipient& recipient, const Reply& reply) {
    need(reply.code >= 400 && reply.code < 600, reply, "reject: not a refusal: ");
    if (!awaiting_) throw std::logic_error("a verdict, but no message waits for one");
    content_->custody.begin({&recipient, 1});
    content_->custody.settle(recipient, reply);
}

void Server::Client::reconsider() {
    if (!awaiting_) throw std::logic_error("a verdict, but no message waits for one");
    content_->custody.reconsider();
}

void Server::Client::answer() {
    if (!awaiting_) return;
    conclude();
    connection_.flush(deadline(shared_->options.command_timeout));
}

// Puts the answer into the output; it leaves with what comes next.
void Server::Client::conclude() {
    if (!awaiting_) return;
    awaiting_ = false;
    auto& custody = content_->custody;
    custody.close();  // first, lest one recipient's verdict were of another moment than the next one's
    const auto verdict = lmtp_ ? custody.verdict(named_.size() - 1) : custody.verdict();
    const bool mixed = !lmtp_ && custody.mixed();
    const auto forgotten = custody.forgotten();
    content_->sender_present = nullptr;
    if (heard<Event::Answered>()) {
        std::vector<Reply> verdicts;
        for (std::size_t n = 0; n + 1 < named_.size(); ++n) verdicts.push_back(custody.verdict(n));
        verdicts.push_back(verdict);
        const Message message(content_);
        Event::Answered event(*this, message, verdicts);
        show(event);
    }
    for (std::size_t n = 0; n + 1 < named_.size(); ++n) say_one(custody.verdict(n));  // RFC 2033 4.2
    conclude_by(verdict);
    if (forgotten > 0) trouble("nobody took the message for " + std::to_string(forgotten) + " of its recipients");
    if (mixed) trouble("some recipients were taken, others not; the sender heard: " + verdict.str());
}

}  // namespace Net::SMTP
