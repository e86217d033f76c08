// Body -- receives the octets of one message, by DATA or in chunks, into memory, a file or a sink.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "Address.hpp"
#include "Connection.hpp"
#include "Message.hpp"
#include "Options.hpp"
#include "Sink.hpp"
#include "Text.hpp"

namespace Net::SMTP {

// How the reading of a text or a chunk ended.
enum class BodyEnding {
    read,   // to its end; see refusal()
    lost,   // the peer has gone before the end
    slow,   // a deadline or the minimum rate was missed
    flood,  // refused, and more than Options::drain came all the same: give up
};

// One message on its way in. What is refused is still read to its end, so that no octet of it is taken for a command.
// Whatever happens the sink hears end() once. Belongs to the session's thread.
class Body {
public:
    using Ending = BodyEnding;

    Body(Connection&, const Options&, std::shared_ptr<Content>, std::shared_ptr<Sink>, Deadline session_end);
    ~Body();
    Body(const Body&) = delete;
    Body& operator=(const Body&) = delete;

    // Whether there is memory to receive into at all.
    bool ready();

    Ending text();
    Ending chunk(std::uint64_t size, bool binary);

    // All has been read: gives the sink its end, the content its size. False when it was refused meanwhile.
    bool complete();

    // Nothing more will come: tells the sink. The destructor does too.
    void abandon();

    // Why the message cannot be taken, once something has gone wrong.
    const std::optional<Reply>& refusal() const { return refusal_; }
    void refuse(Reply reply);
    // Whether the sink wants the connection closed after that.
    bool hangs_up() const { return hangs_up_; }
    // What a sink threw that was no refusal; for Event::Trouble.
    const std::string& trouble() const { return trouble_; }

private:
    Ending discard_text();
    Ending discard_chunk(std::uint64_t left);
    bool prepare(std::size_t lead_unit);
    void keep(std::size_t produced);
    bool write_out();
    bool add_missing(bool all);
    bool hold_header();
    void guard(const std::function<void()>& action);
    void check_bare();
    Deadline deadline() const;
    Ending ending(Connection::Got) const;

    Connection& connection_;
    const Options& options_;
    std::shared_ptr<Content> content_;
    std::shared_ptr<Sink> sink_;
    TextDecoder decoder_;
    std::optional<Reply> refusal_;
    std::string trouble_;
    Deadline started_, session_end_;
    std::uint64_t received_ = 0;  // octets of the wire
    std::uint64_t wasted_ = 0;    // of them after a refusal
    std::uint64_t size_ = 0;      // octets of the message, as they were sent
    std::size_t added_ = 0;       // octets of the fields in front of them
    // The block has the message, or what of it is not yet written out, from `first_` to `held_`.
    std::size_t first_ = 0, held_ = 0;
    bool incomplete_;  // fields may have to be put in front of it yet
    bool ended_ = false, hangs_up_ = false;
    bool chunked_ = false;
    bool binary_ = false;
};

}  // namespace Net::SMTP
