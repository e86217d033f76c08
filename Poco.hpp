// Poco -- sessions on Poco sockets, lines for Poco loggers, counters by Poco's HTTP server. The only header here that
// needs Poco, for who wants it.
#pragma once

#include <Poco/Logger.h>
#include <Poco/Message.h>
#include <Poco/Net/HTTPRequestHandler.h>
#include <Poco/Net/HTTPRequestHandlerFactory.h>
#include <Poco/Net/HTTPServer.h>
#include <Poco/Net/HTTPServerParams.h>
#include <Poco/Net/HTTPServerRequest.h>
#include <Poco/Net/HTTPServerResponse.h>
#include <Poco/Net/ServerSocket.h>
#include <Poco/Net/StreamSocket.h>
#include <fcntl.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "Server/Connection.hpp"
#include "Server/Plugins/Counters.hpp"

namespace Net::SMTP {

// A Connection on a copy (dup) of the socket's descriptor; the Poco socket stays the caller's. Both are
// one connection: don't talk on both at once, and when the session ends it, it is ended. std::system_error when the
// socket is not connected.
inline Connection connection(const Poco::Net::StreamSocket& socket) {
    const int fd = fcntl(socket.impl()->sockfd(), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) throw std::system_error(errno, std::generic_category(), "connection of a Poco socket");
    return Connection(fd);
}

// For a SessionLog or Transcript: each line is a message of that logger, as it is (no format string). The logger must
// be there as long as whoever writes; its channels must bear several threads at once, as Poco's own do.
inline std::function<void(std::string_view line)> lines_to(
    Poco::Logger& logger, Poco::Message::Priority priority = Poco::Message::PRIO_INFORMATION) {
    return [&logger, priority](std::string_view line) {
        if (logger.is(priority)) logger.log(Poco::Message(logger.name(), std::string(line), priority));
    };
}

// Serves what is counted to Prometheus, by HTTP at that address ("127.0.0.1:9125", port 0: any free one, see
// HTTPServer::port()), whatever the path, until it is destroyed. Anybody who can reach it may read it. Four requests at
// once, each in 10 s at most, on threads of Poco's default pool. Poco::Exception when it can't listen.
inline std::unique_ptr<Poco::Net::HTTPServer> metrics(const Counters& counters, const std::string& address,
                                                      const std::string& prefix = "smtp",
                                                      const std::string& server = "") {
    struct Page : Poco::Net::HTTPRequestHandler {
        void handleRequest(Poco::Net::HTTPServerRequest& request, Poco::Net::HTTPServerResponse& response) override {
            const bool reads = request.getMethod() == "GET" || request.getMethod() == "HEAD";
            if (!reads) response.setStatusAndReason(Poco::Net::HTTPResponse::HTTP_METHOD_NOT_ALLOWED);
            response.setContentType("text/plain; version=0.0.4");
            response.sendBuffer(text.data(), reads ? text.size() : 0);
        }
        std::string text{};
    };
    struct Pages : Poco::Net::HTTPRequestHandlerFactory {
        explicit Pages(std::function<std::string()> t) : text(std::move(t)) {}
        Poco::Net::HTTPRequestHandler* createRequestHandler(const Poco::Net::HTTPServerRequest&) override {
            auto page = std::make_unique<Page>();
            page->text = text();
            return page.release();  // Poco owns it
        }
        const std::function<std::string()> text;
    };
    Poco::AutoPtr<Poco::Net::HTTPServerParams> limits(new Poco::Net::HTTPServerParams);
    limits->setKeepAlive(false);
    limits->setTimeout(Poco::Timespan(10, 0));
    limits->setMaxThreads(4);
    limits->setMaxQueued(16);
    auto http = std::make_unique<Poco::Net::HTTPServer>(
        new Pages([counters, prefix, server] { return counters.prometheus(prefix, server); }),
        Poco::Net::ServerSocket(Poco::Net::SocketAddress(address)), limits);
    http->start();
    return http;
}

}  // namespace Net::SMTP
