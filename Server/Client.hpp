// Client -- one SMTP session, seen from the server: a transaction per process(), its fields FROM, TO and MSG.
#pragma once

#include <any>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "Address.hpp"
#include "Command.hpp"
#include "Connection.hpp"
#include "Message.hpp"
#include "Pipeline.hpp"
#include "Reply.hpp"
#include "Server.hpp"
#include "Sink.hpp"
#include "Wait.hpp"

namespace Net::SMTP {

class Body;
class Mailbox;
enum class BodyEnding;

// The dialogue with one client (RFC 821, 2821, 5321; by Options::protocol also LMTP, RFC 2033). Nothing is written
// before the first process(). Belongs to one thread; it can't be copied or moved. Nothing a client sends makes a member
// throw.
class Server::Client {
public:
    // With the options and listeners of the server the connection came from; a connection of your own has the defaults.
    explicit Client(Connection connection);
    // With other options, and no listeners. std::invalid_argument names an option that makes no sense.
    Client(Connection connection, Options options);
    // Any connected descriptor; it is owned from now on. std::system_error when it is not open or not connected.
    explicit Client(int fd, Options options = {});

    // Gives the answer to the last mail, says 221 to QUIT and 421 4.3.2 to anything else, and closes without losing
    // what was said. At most 4 s. In a process other than the one that made it, it says nothing.
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    // The transaction that process() received. Yours to change; the answer does not depend on it.
    Sender FROM;
    std::vector<Recipient> TO;
    Message MSG;

    // Runs the session until a message is complete: true, and FROM, TO and MSG hold it. The sender is still waiting for
    // the answer, which goes out at answer(), the next process() or the destructor: 250 if every recipient has a taker
    // (Relay, MSG.save(), accept()), else the worst that was said, and 451 4.3.0 if for somebody nobody spoke. By LMTP
    // the sender hears that for each recipient, in the order of RCPT. False: the session is over, by QUIT, by its
    // peer's or by a limit's doing. Calling it again after false is std::logic_error.
    bool process();

    // The program takes the message, or refuses it, for everybody or for one recipient. Before the first process()
    // reject() is what the client hears instead of the greeting. std::logic_error when there is no message, or its
    // answer has gone; std::invalid_argument when the code is not 2xx, or not 4xx or 5xx. 421 closes the connection
    // after the answer; by LMTP after all of them, and all but the last say 451 for it, because a client may read no
    // further than 421.
    void accept(const Reply& reply = {250, "2.0.0", "OK"});
    void accept(const Recipient&, const Reply& reply = {250, "2.0.0", "OK"});
    void reject(Reply reply);
    void reject(const Recipient&, const Reply& reply);
    // Forgets what takers have said about this message so far; for a second try after a failed one.
    void reconsider();
    // Sends the answer now. Nothing happens if none is due.
    void answer();

    // The next message goes there instead of MSG, in constant memory: before process(), or from a listener until
    // Event::Data. The program must still take it: accept().
    void into(std::shared_ptr<Sink> sink);
    void into(std::function<void(std::string_view)> write) { into(make_sink(std::move(write))); }
    void into(int fd) { into(make_sink(fd)); }

    // For a listener to Event::Command that answers the command itself, by 2xx or 3xx; else it does nothing. When that
    // has been said, what comes is a text, up to the line with the dot, and then Event::Text. It goes to a sink or a
    // descriptor, if there is one, else to MSG. With `sync` the descriptor's file is on disk (fsync) before that.
    void data_mode(std::shared_ptr<Sink> sink = nullptr);
    void data_mode(int fd, bool sync = false);

    const Endpoint& peer() const { return connection_.peer(); }
    const Endpoint& local() const { return connection_.local(); }
    const std::string& helo() const { return helo_; }  // "" before HELO, EHLO or LHLO
    bool esmtp() const { return esmtp_; }              // EHLO or LHLO was said
    const Extensions& offered() const { return offer_; }
    const Options& options() const;
    // The server's, Server::pipeline(); of its own if it comes from none.
    Pipeline& pipeline() const;
    // What encrypts the connection; null in the clear.
    const TLS* tls() const { return connection_.tls(); }
    // Who has authenticated, and by which mechanism; "" before that.
    const std::string& user() const { return user_; }
    const std::string& mechanism() const { return mechanism_; }
    const std::string& id() const { return id_; }  // unlike any other session's
    // Whether the session is over: nothing more can be said.
    bool closed() const { return ended_; }

    // For plugins and listeners, on the session's thread. Shows an event of theirs, or of the program's, to who hears
    // it: as the server's own are, so that a Hangup ends the session with the next reply. True if no plugin kept it
    // from the listeners.
    template <class Kind>
    bool show(Kind& event) {
        const auto shown = pipeline().show(kind_of<Kind>(), event, view_);
        hang_up_ |= shown.hang_up;
        return shown.listeners;
    }
    // Lets time pass before an answer (a tarpit; who talks before he is greeted): until then, or the session's own end,
    // or the server's stop. What was said before goes out first. False: the client has gone.
    bool pause(Deadline until);
    // Whether the client has sent something that nobody has read. Before the greeting it came too early.
    bool pending();
    // How long a session bears waiting for something else: until then, or its own end, or that of the server's drain.
    Wait wait(Deadline end) const;

    // A place for one thing a listener wants to find again in MSG.content() when the message is there; it ends with the
    // transaction. Only between MAIL and the end of the message.
    std::any& baggage();

private:
    friend class Server;
    enum class Phase {
        start,   // before HELO, EHLO or LHLO
        ready,   // between mails
        mail,    // after MAIL
        chunks,  // after the first BDAT
    };
    // A verb answers; or has nothing to answer now, because a message is complete or the session over.
    using Answer = std::optional<Reply>;
    using Function = Answer (Client::*)(std::string_view argument);
    static Function function(Verb);

    void begin();
    bool greet();
    // Tells of the session's end, once.
    void leave();
    void converse();
    void give_up() noexcept;
    Answer command(std::string_view line);
    void answer_command(const Answer&);
    // Says what others want us to say.
    void deliver();
    Answer answered(std::string_view line, Reply);
    Answer vetoed(std::string_view line, const Reply&);
    // A line that is not even looked at, for that reason. Behind BDAT octets may follow that somebody in between takes
    // for a chunk: then the session ends.
    Answer unread(std::string_view line, const Reply& why);
    // Whether it has to wait for TLS.
    bool untimely(Verb) const;
    Answer execute(std::string_view line);
    Answer helo(std::string_view), ehlo(std::string_view), lhlo(std::string_view), mail(std::string_view),
        rcpt(std::string_view), data(std::string_view), bdat(std::string_view), rset(std::string_view),
        noop(std::string_view), vrfy(std::string_view), expn(std::string_view), help(std::string_view),
        quit(std::string_view), starttls(std::string_view), auth(std::string_view);

    Reply hello(std::string_view argument, Verb);
    // The handshake; false when the session is over because of it.
    bool encrypt();
    // The names that EHLO offers here and now; empty: none.
    std::vector<std::string> auth_offer();
    Channel channel() const;
    // One AUTH command and what comes of it.
    struct Attempt;
    // Calls the program's; false when it has thrown, which is trouble.
    bool ask_authenticator(const std::function<void()>& question);
    Reply may_authenticate();
    Reply exchange(Attempt&);
    Reply steps(Attempt&, AuthExchange&);
    // Says the challenge and reads the response; false: the attempt's refusal is the answer.
    bool challenge(Attempt&, std::string_view data);
    Answer conclude_auth(Attempt&, Reply);
    Reply admit(Attempt&, const Reply&);
    bool may_tell(Attempt&, bool success);
    // MAIL's AUTH= of somebody who is not trusted says nothing.
    void believe(Sender&);
    // Of a command line with its CRLF: AUTH may bring more than others.
    std::size_t line_limit() const;
    bool too_long(std::string_view line) const;
    Reply may_begin_body();
    bool start_body();
    Answer end_body();
    // The text that data_mode() asked for; what is said about it.
    Answer own_text();
    // Gives recipients that came from elsewhere ids of their own.
    void tell_apart();
    // Whether the message is still the program's to decide on.
    bool arrived();
    Answer waste(std::uint64_t size, const Reply& refusal);
    Answer body_failed(BodyEnding, bool last);
    void give(const Reply& verdict);
    // What a handler has thrown: for everybody, by LMTP for those whom nobody has spoken for.
    void thrown(const Reply&);
    void conclude();
    void reset();
    void say(const Reply&);
    // Says it, and ends the session if that is what it means, or what somebody wants.
    void conclude_by(Reply);
    void put(const Reply&);
    // As those who hear replies want it said. nullopt: not at all.
    std::optional<Reply> shown(Reply);
    // One of several replies to a text, and not the last of them.
    void say_one(Reply);
    // The answer to a whole text. By LMTP says it for all recipients but the last, whose answer is returned.
    Reply say_each(const Reply& answer);
    // How many recipients of the transaction have heard 2xx.
    std::size_t recipients() const { return lmtp_ ? named_.size() : TO.size(); }
    // Says it and ends the session.
    void goodbye(Reply, bool politely = true);
    template <class Kind>
    bool heard() {
        return pipeline().heard(kind_of<Kind>(), view_);
    }
    void trouble(const std::string& what);
    Deadline deadline(std::chrono::seconds) const;
    Deadline session_end() const;
    static void give_back(void* client);

    Connection connection_;
    std::shared_ptr<Shared> shared_;
    std::string id_, helo_, user_, mechanism_;
    bool lmtp_ = false, esmtp_ = false, statuses_ = true;
    Pipeline::View view_;
    std::shared_ptr<Mailbox> mailbox_;  // null: nobody may have us say something
    Extensions offer_;
    Phase phase_ = Phase::start;
    std::shared_ptr<const Trace> trace_;
    std::shared_ptr<Content> content_;  // of the transaction
    std::unique_ptr<Body> body_;
    std::shared_ptr<Sink> sink_;          // for the next message
    std::shared_ptr<Sink> sink_of_mail_;  // for this one, chosen between MAIL and its body; goes with the transaction
    bool may_answer_ = false;                        // listeners are asked about a command
    std::optional<std::shared_ptr<Sink>> own_sink_;  // data_mode() was called
    std::optional<Reply> greeting_refusal_;
    std::optional<Reply> veto_;  // of a BDAT

    bool greeted_ = false, ended_ = false, told_ = false;
    bool starting_tls_ = false;
    bool begun_ = false, left_ = false;
    Reply last_{0, "", ""};  // said at the end
    bool awaiting_ = false;  // the message is complete, its answer not yet given
    bool complete_ = false;  // process() is to return true
    bool hang_up_ = false;   // after the answer
    std::size_t commands_ = 0, errors_ = 0, mails_ = 0, auth_failures_ = 0;
    std::uint64_t recipients_ = 0;      // the last id given
    std::vector<std::uint64_t> named_;  // LMTP: whose RCPT was answered 2xx, by id; so many replies follow the text
    Deadline began_;
    int owner_;
};

}  // namespace Net::SMTP
